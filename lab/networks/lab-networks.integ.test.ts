import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LabNetworks } from './lab-networks';

/** Real namespaces and packets: a process on each network tries what it may and what it may not reach. Needs root. */
const listen = `
  const net = require('node:net');
  const [host, port] = process.argv.slice(1);
  net.createServer((socket) => socket.end(socket.remoteAddress)).listen(Number(port), host, () => console.log('listens'));
`;
const connect = `
  const net = require('node:net');
  const [host, port, patienceMs] = process.argv.slice(1);
  const socket = net.connect({ host, port: Number(port) });
  let text = '';
  socket.setTimeout(Number(patienceMs), () => { console.log('silent'); process.exit(); });
  socket.on('data', (chunk) => (text += chunk));
  socket.on('end', () => { console.log(text.replace('::ffff:', '')); process.exit(); });
  socket.on('error', (error) => { console.log(error.code); process.exit(); });
`;

describe('networks of a lab', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'lab-networks-'));
  const hosts = ['a', 'b', 'n', 'six', 'plain'].map((cluster) => ({ id: `host-${cluster}`, name: `host-${cluster}`, cluster }));
  const vmOf = (cluster: string): string => `vm-${cluster}`;
  const enter = new Map<string, readonly string[]>();
  const servers: ChildProcess[] = [];
  let networks: LabNetworks;

  const serve = async (prefix: readonly string[], host: string, port: number): Promise<void> => {
    const [file = '', ...args] = [...prefix, process.execPath, '-e', listen, host, String(port)];
    const server = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    servers.push(server);
    await new Promise((resolve) => server.stdout.once('data', resolve));
  };
  const ask = (cluster: string, host: string, port: number, patienceMs: number): string => {
    const [file = '', ...args] = [...(enter.get(cluster) ?? []), process.execPath, '-e', connect, host, String(port), String(patienceMs)];
    return execFileSync(file, args, { encoding: 'utf8', timeout: 120_000 }).trim();
  };
  /** Where an answer is expected: so patient that a machine which stands still for a while does not look silent. */
  const reach = (cluster: string, host: string, port: number): string => ask(cluster, host, port, 30_000);
  /** Where none is: the way has to be closed for as long as it lasts. */
  const fail = (cluster: string, host: string, port: number): string => ask(cluster, host, port, 1500);
  /** The kernel remembers for a moment that a neighbour did not answer. */
  const reachAgain = (cluster: string, host: string, port: number): string => {
    let answer = '';
    for (const until = Date.now() + 60_000; Date.now() < until;) {
      answer = ask(cluster, host, port, 5000);
      if (!/^(silent|EHOSTUNREACH)$/.test(answer)) break;
    }
    return answer;
  };
  const open = async (): Promise<LabNetworks> =>
    await LabNetworks.open(
      dataDir,
      { clusters: { a: {}, b: {}, n: { nat: true }, six: { family: 'ipv6' } } },
      hosts.map(({ cluster }) => cluster),
      hosts,
    );

  beforeAll(async () => {
    networks = await open();
    for (const [index, { id, cluster }] of hosts.entries()) {
      const port = await networks.connectProcess(id, vmOf(cluster), [`56:6f:1a:2b:00:0${index}`]);
      enter.set(cluster, port.enter);
      await serve(networks.enter(id), networks.hostAddress(id), 54322);
    }
    await serve([], '::', 18443);
  });
  afterAll(async () => {
    for (const server of servers) server.kill('SIGKILL');
    await networks.close();
    rmSync(dataDir, { recursive: true, force: true });
    expect(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })).not.toContain(`tml${networks.labNumber}-`);
  });

  it('lets a worker reach its own hosts and the server, and no other cluster', () => {
    const { serverAddress, serverAddressIpv6, clusters } = networks.access;
    const own = networks.addresses;
    expect(reach('a', networks.hostAddress('host-a'), 54322)).toMatch(/^10\./);
    expect(reach('a', serverAddress, 18443)).toMatch(new RegExp(`^${own.ipv4(1, 0).replace(/0$/, '')}`));
    expect(fail('a', networks.hostAddress('host-b'), 54322)).toMatch(/ENETUNREACH|EHOSTUNREACH|silent/);
    expect(reach('b', networks.hostAddress('host-b'), 54322)).toMatch(/^10\./);
    // Behind NAT: another source address, and the server at its forward address only.
    expect(reach('n', clusters['n']?.serverAddress ?? '', 18443)).toBe(own.ipv4(0, 13));
    expect(fail('n', serverAddress, 18443)).toBe('silent');
    expect(reach('six', serverAddressIpv6, 18443)).toMatch(/^fd5a:/);
    expect(reach('six', networks.hostAddress('host-six'), 54322)).toMatch(/^fd5a:/);
    expect(reach('six', serverAddress, 18443)).toMatch(/ENETUNREACH|EHOSTUNREACH/);
    expect(reach('plain', serverAddress, 18443)).toMatch(/^10\./);
    expect(reach('plain', networks.hostAddress('host-plain'), 54322)).toMatch(/^10\./);
  });

  it('blocks ports, silently or by refusal, and cuts cables', async () => {
    const { serverAddress } = networks.access;
    await networks.block('a', [{ port: 18443, at: 'server', how: 'drop' }]);
    expect(fail('a', serverAddress, 18443)).toBe('silent');
    await networks.block('a', [{ port: 54322, at: 'hosts', how: 'reject' }]);
    expect(reach('a', networks.hostAddress('host-a'), 54322)).toBe('ECONNREFUSED');
    expect(reach('a', serverAddress, 18443)).toMatch(/^10\./);
    await networks.block('a', []);
    expect(reach('a', networks.hostAddress('host-a'), 54322)).toMatch(/^10\./);

    await networks.cutOffVm(vmOf('a'), true);
    expect(fail('a', networks.hostAddress('host-a'), 54322)).toMatch(/silent|EHOSTUNREACH/);
    await networks.cutOffVm(vmOf('a'), false);
    expect(reachAgain('a', networks.hostAddress('host-a'), 54322)).toMatch(/^10\./);
    for (const cluster of ['b', 'six']) {
      const server = cluster === 'b' ? serverAddress : networks.access.serverAddressIpv6;
      await networks.cutOffCluster(cluster, true);
      expect(fail(cluster, server, 18443)).toMatch(/silent|EHOSTUNREACH/);
      expect(reach(cluster, networks.hostAddress(`host-${cluster}`), 54322)).toMatch(/^10\.|^fd5a:/);
      await networks.cutOffCluster(cluster, false);
      expect(reachAgain(cluster, server, 18443)).toMatch(/^10\.|^fd5a:/);
    }
  });

  it('finds its networks again after the lab was killed', async () => {
    const number = networks.labNumber;
    networks = await open();
    expect(networks.labNumber).toBe(number);
    const again = await networks.connectProcess('host-b', vmOf('b'), ['56:6f:1a:2b:00:01']);
    expect(again.enter).toEqual(enter.get('b'));
    expect(reach('b', networks.hostAddress('host-b'), 54322)).toMatch(/^10\./);
    expect(reach('n', networks.access.clusters['n']?.serverAddress ?? '', 18443)).toMatch(/^10\./);
  });

  it('gives addresses to those who ask', () => {
    // A second interface of the same namespace asks by DHCP, with the client that is there.
    const [, net = ''] = enter.get('a') ?? [];
    const script = 'ip addr flush dev eth0 && udhcpc -i eth0 -n -q -t 30 -T 2 -s /bin/true 2>&1';
    const said = execFileSync('nsenter', [net, 'sh', '-c', script.replace('udhcpc', '/bin/busybox udhcpc')], { encoding: 'utf8' });
    expect(said).toMatch(/lease of 10\.\d+\.\d+\.(1[5-9]\d|2[0-4]\d|250) obtained/);
  });
});
