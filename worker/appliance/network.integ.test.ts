/** The network of a worker VM with the kernel's own rules, in a network namespace of its own. Needs root, unshare and iproute2. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Runs inside of the namespace; answers as JSON. */
const script = `
  const { execFileSync } = require('node:child_process');
  const { Network } = require(process.argv[1]);
  const folder = process.argv[2];
  const ip = (...args) => execFileSync('ip', args, { encoding: 'utf8' });
  const wayFrom = (from, to) => JSON.parse(ip('-json', 'route', 'get', to, 'from', from))[0];
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const said = [];
  const logger = { error: (text) => said.push(text), warn: (text) => said.push(text), info: () => {}, debug: () => {} };
  (async () => {
    for (const name of ['eth0', 'eth1']) {
      ip('link', 'add', name, 'type', 'veth', 'peer', 'name', name + 'far');
      ip('link', 'set', name + 'far', 'up');
    }
    const none = { method: 'none' };
    const network = new Network({
      nics: [
        { device: 'eth0', mtu: 1400, ipv4: { method: 'static', address: '10.7.0.9/24', gateway: '10.7.0.1' }, ipv6: none, routes: [{ destination: '172.16.7.0/24', via: '10.7.0.254' }] },
        { device: 'eth1', ipv4: { method: 'static', address: '10.8.0.9/24', gateway: '10.8.0.1' }, ipv6: { method: 'static', address: '2001:db8:8::9/64', gateway: '2001:db8:8::1' }, routes: [] },
      ],
      dnsServers: ['10.7.0.2'], dnsSearch: [], problems: [],
    }, logger, folder);
    await network.start();
    await network.waitForAddresses(120_000);
    const answer = {
      mtu: JSON.parse(ip('-json', 'link', 'show', 'eth0'))[0].mtu,
      first: JSON.parse(ip('-json', 'route', 'get', '198.51.100.7'))[0].dev,
      routed: JSON.parse(ip('-json', 'route', 'get', '172.16.7.7'))[0].gateway,
      fromFirst: wayFrom('10.7.0.9', '198.51.100.7').gateway,
      fromSecond: wayFrom('10.8.0.9', '198.51.100.7').gateway,
    };
    // A lease that changes: the rules follow by themselves.
    ip('address', 'add', '10.8.0.77/24', 'dev', 'eth1');
    for (let tries = 0; tries < 1_000; tries += 1) {
      try { answer.fromNew = wayFrom('10.8.0.77', '198.51.100.7').gateway; } catch {}
      try { answer.fromSix = wayFrom('2001:db8:8::9', '2001:db8:99::7').gateway; } catch {}
      if (answer.fromNew === '10.8.0.1' && answer.fromSix) break;
      await sleep(100);
    }
    network.stop();
    console.log(JSON.stringify({ ...answer, said }));
    process.exit(0);
  })();
`;

test('answers leave by the NIC whose address they carry, also after an address came later', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-network-'));
  try {
    const module = path.join(__dirname, 'network.js');
    const text = execFileSync('unshare', ['--net', '--', process.execPath, '-e', script, module, folder], {
      encoding: 'utf8',
      timeout: 230_000,
    });
    expect(JSON.parse(text)).toEqual({
      mtu: 1400,
      first: 'eth0',
      routed: '10.7.0.254',
      fromFirst: '10.7.0.1',
      fromSecond: '10.8.0.1',
      fromNew: '10.8.0.1',
      fromSix: '2001:db8:8::1',
      said: [],
    });
    expect(fs.readFileSync(path.join(folder, 'resolv.conf'), 'utf8')).toContain('nameserver 10.7.0.2');
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
