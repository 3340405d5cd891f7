/**
 * Our units under a real systemd, with the real roles: files are replaced from outside, the path unit notices, and restart-after-rotation does the rest. What
 * the script does in each case is tested faster beside this one, with a stand-in for systemctl.
 */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { eventually } from '../harness/child';
import { SystemdMachine, whyNoMachine } from './systemd-machine';

type Role = 'server' | 'plugin' | 'mover' | 'worker';

/** What is made beforehand, so that several files change at one moment. */
interface Prepared {
  readonly fingerprint: string;
  readonly put: () => void;
}
const roles: readonly Role[] = ['server', 'plugin', 'mover', 'worker'];
const unitOf = (role: string) => `tidemark-${role}.service`;
const identityOf = (role: Role) => `/var/lib/tidemark/${role}/identity/identity.json`;
const folder = '/etc/tidemark/tls';
const consoleFiles = { certificateFile: `${folder}/console.pem`, privateKeyFile: `${folder}/console.key` };
const addresses = ['127.0.0.1', 'localhost'];
/** While this file is in the machine its server does not start. */
const hold = '/run/tidemark-hold';
/** For what happens by itself within seconds. */
const patienceMs = 240_000;
const notHere = whyNoMachine();
if (notHere !== undefined) console.warn(`units under a real systemd are not tested: ${notHere}`);

(notHere === undefined ? describe : describe.skip)('certificates that are replaced from outside, under systemd', () => {
  let machine: SystemdMachine;
  let authority: Authority;

  beforeAll(async () => {
    machine = await SystemdMachine.boot();
    authority = await createAuthority('of the company');
    await machine.must('systemd-sysusers');
    await machine.must('mkdir', '-p', folder);
    await replaceConsole();
    configure();
    await machine.must('chown', '-R', 'root:tidemark', '/etc/tidemark');
    await machine.must('chmod', '-R', 'g+rX,o=', '/etc/tidemark');
    await machine.must('systemctl', 'daemon-reload');
    await startRoles();
    await machine.must('systemctl', 'start', 'tidemark-certificates.path');
    // The first run remembers.
    await triggered(() => machine.must('systemctl', 'start', 'tidemark-certificates.service'));
  }, 900_000);
  afterAll(async () => {
    await (machine as SystemdMachine | undefined)?.[Symbol.asyncDispose]();
  });

  function configure(): void {
    const host = { endpoint: '127.0.0.1:8444', enrolmentEndpoint: '127.0.0.1:8449' };
    const tokenFile = (role: Role) => ({ enrolmentTokenFile: `/etc/tidemark/${role}.token` });
    const config = (role: Role, more: object) =>
      machine.write(`/etc/tidemark/${role}.json`, JSON.stringify({ dataFolder: `/var/lib/tidemark/${role}`, ...more }));
    const listen = { address: '127.0.0.1' };
    config('server', { listen, addresses, console: consoleFiles });
    config('plugin', { listen, addresses, host: { ...host, ...tokenFile('plugin') } });
    config('mover', { listen, addresses, host: { ...host, ...tokenFile('mover') } });
    config('worker', { plugin: { endpoint: '127.0.0.1:8446', enrolmentEndpoint: '127.0.0.1:8448', ...tokenFile('worker') } });
    machine.write('/etc/tidemark/certificates.json', JSON.stringify({ services: map() }));
    // What an administrator adds with "systemctl edit": files elsewhere, and less patience.
    const watched = roles.slice(1).map((role) => `PathChanged=${identityOf(role)}`);
    machine.write('/etc/systemd/system/tidemark-certificates.path.d/elsewhere.conf', ['[Path]', ...watched, ''].join('\n'));
    const script = '/usr/lib/tidemark/certificate/restart-after-rotation --state /var/lib/tidemark-certificates --timeout 60';
    const waits = `ExecStartPre=+/bin/sh -c 'while [ -e ${hold} ]; do sleep 0.1; done'`;
    machine.write('/etc/systemd/system/tidemark-server.service.d/hold.conf', ['[Service]', 'TimeoutStartSec=300', waits, ''].join('\n'));
    machine.write(
      '/etc/systemd/system/tidemark-certificates.service.d/patience.conf',
      ['[Service]', 'ExecStart=', `ExecStart=${script}`, ''].join('\n'),
    );
  }

  /** In no order that means anything. */
  function map(): object[] {
    const byIdentity = (role: Role, health?: object) => ({
      ...{ unit: unitOf(role), role, files: [identityOf(role)], certificate: identityOf(role) },
      ...(health ? { health } : {}),
    });
    return [
      byIdentity('worker'),
      byIdentity('mover', { tls: '127.0.0.1:8447' }),
      {
        ...{ unit: unitOf('server'), role: 'server', files: Object.values(consoleFiles) },
        ...{ certificate: consoleFiles.certificateFile, key: consoleFiles.privateKeyFile },
        health: { url: 'https://127.0.0.1:8443/api/v1/health' },
      },
      byIdentity('plugin', { tls: '127.0.0.1:8446' }),
    ];
  }

  async function startRoles(): Promise<void> {
    await machine.must('systemctl', 'start', unitOf('server'));
    machine.write('/root/ca.pem', authority.certificatePem);
    const password = '/var/lib/tidemark/server/initial-admin-password';
    const login = ['tidemark', 'login', '--server', 'https://127.0.0.1:8443', '--ca', '/root/ca.pem', '--password-file', password];
    await eventually('the server', patienceMs, async () => (await machine.run(...login)).code === 0, 250);
    for (const role of roles.slice(1)) {
      machine.write(`/etc/tidemark/${role}.token`, await machine.must('tidemark', role, 'enrol'));
      await machine.must('chown', 'tidemark:tidemark', `/etc/tidemark/${role}.token`);
      await machine.must('systemctl', 'start', unitOf(role));
      if (role === 'plugin') await enablePlugin();
    }
    for (const role of roles.slice(1)) await isUp(role, async () => fs.existsSync(machine.path(identityOf(role))));
    await isUp('mover', () => shownAt(8447));
    await isUp('worker', workerIsConnected);
  }

  async function enablePlugin(): Promise<void> {
    await isUp('plugin', () => shownAt(8446));
    const { items } = await json<{ items: { id: string }[] }>('plugin', 'list');
    await machine.must('tidemark', 'plugin', 'enable', items[0]?.id ?? '');
  }

  const json = async <T>(...words: string[]) => JSON.parse(await machine.must('tidemark', ...words, '--json')) as T;

  async function workerIsConnected(): Promise<boolean> {
    const { items } = await json<{ items: { state: string }[] }>('worker', 'list');
    return items.some(({ state }) => state === 'connected');
  }

  async function isUp(role: Role, look: () => Promise<unknown>): Promise<void> {
    try {
      await eventually(`the ${role}`, patienceMs, async () => Boolean(await look()), 250);
    } catch (error) {
      throw new Error(`${String(error)}\n${(await machine.journal(unitOf(role))).slice(-2000)}`, { cause: error });
    }
  }

  /** A new certificate and key of the company's CA for the console, to be put in place. */
  async function newConsole(): Promise<Prepared> {
    const made = await issueIdentity(authority, { role: 'host', id: 'console' }, addresses);
    return {
      fingerprint: new X509Certificate(made.certificateChainPem).fingerprint256,
      put: () => {
        machine.replace(consoleFiles.certificateFile, made.certificateChainPem);
        machine.replace(consoleFiles.privateKeyFile, made.privateKeyPem);
      },
    };
  }

  async function replaceConsole(): Promise<string> {
    const { fingerprint, put } = await newConsole();
    put();
    return fingerprint;
  }

  /** A new identity for a role, as the server's CA would issue it, to be put in place. `key` is another one than that of the certificate when it is given. */
  async function newIdentity(role: Role, key?: string): Promise<Prepared> {
    const { issuing } = JSON.parse(fs.readFileSync(machine.path('/var/lib/tidemark/server/identity/authority.json'), 'utf8')) as {
      issuing: Authority;
    };
    const id = /tidemark:\w+:([\w-]+)/.exec(certificateOf(role).subjectAltName ?? '')?.[1] ?? '';
    const made = await issueIdentity(issuing, { role: role as 'plugin', id }, addresses);
    return {
      fingerprint: new X509Certificate(made.certificateChainPem).fingerprint256,
      put: () => machine.write(identityOf(role), JSON.stringify({ ...made, ...(key ? { privateKeyPem: key } : {}) })),
    };
  }

  const certificateOf = (role: Role) => {
    const identity = JSON.parse(fs.readFileSync(machine.path(identityOf(role)), 'utf8')) as { certificateChainPem: string };
    return new X509Certificate(identity.certificateChainPem);
  };

  /** SHA-256 of the certificate that a port of the machine shows; empty when none does. */
  async function shownAt(port: number): Promise<string> {
    const look = `import ssl,hashlib
try: print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1",${port}),timeout=60))).hexdigest().upper())
except OSError: pass`;
    const hex = (await machine.must('python3', '-c', look)).trim();
    return hex.match(/../g)?.join(':') ?? '';
  }

  /** Makes a change and waits until the service that it triggers has ended; what it said. */
  async function triggered(change: () => unknown): Promise<{ result: string; output: string }> {
    const unit = 'tidemark-certificates.service';
    const before = (await machine.unit(unit)).invocation;
    await change();
    const ended = await eventually(
      'the end of restart-after-rotation',
      patienceMs,
      async () => {
        const now = await machine.unit(unit);
        return now.invocation !== before && ['inactive', 'failed'].includes(now.state) ? now : undefined;
      },
      200,
    );
    await machine.must('journalctl', '--sync');
    const output = await machine.must('journalctl', '--no-pager', '--output=cat', `_SYSTEMD_INVOCATION_ID=${ended.invocation}`);
    return { result: ended.result, output };
  }

  /** Roles that have another process than before, in the order of their starts. */
  async function restarted(before: ReadonlyMap<Role, string>): Promise<Role[]> {
    const now = new Map(await Promise.all(roles.map(async (role) => [role, await machine.unit(unitOf(role))] as const)));
    const startedAt = (role: Role) => now.get(role)?.startedAt ?? 0;
    return roles.filter((role) => now.get(role)?.pid !== before.get(role)).sort((a, b) => startedAt(a) - startedAt(b));
  }

  const processes = async () =>
    new Map(await Promise.all(roles.map(async (role) => [role, (await machine.unit(unitOf(role))).pid] as const)));

  const allActive = async () => {
    for (const role of roles) expect([role, (await machine.unit(unitOf(role))).state]).toEqual([role, 'active']);
  };

  it('are taken by services that run as a user of their own, closed off as their units say', async () => {
    await allActive();
    for (const [role, pid] of await processes()) {
      expect([role, (await machine.must('stat', '-c', '%U', `/proc/${pid}`)).trim()]).toEqual([role, 'tidemark']);
      const status = await machine.must('grep', '-E', '^(NoNewPrivs|Seccomp|CapBnd):', `/proc/${pid}/status`);
      expect(status.split('\n').map((line) => line.split('\t')[1])).toEqual(['0000000000000000', '1', '2', undefined]);
    }
  });

  it('restart exactly the server when its console’s were replaced', async () => {
    const before = await processes();
    let wanted = '';
    const { result, output } = await triggered(async () => (wanted = await replaceConsole()));
    expect(output).toMatch(/restarting tidemark-server\.service\ntidemark-server\.service is up\ndone/);
    expect(result).toBe('success');
    expect(await restarted(before)).toEqual(['server']);
    expect(await shownAt(8443)).toBe(wanted);
    await allActive();
  }, 600_000);

  it('restart several services in the order plug-in, mover, worker', async () => {
    const before = await processes();
    const made = new Map<Role, Prepared>();
    for (const role of ['worker', 'mover', 'plugin'] as const) made.set(role, await newIdentity(role));
    const wanted = (role: Role) => made.get(role)?.fingerprint;
    const { result } = await triggered(() => made.forEach(({ put }) => put()));
    expect(result).toBe('success');
    expect(await restarted(before)).toEqual(['plugin', 'mover', 'worker']);
    expect([await shownAt(8446), await shownAt(8447)]).toEqual([wanted('plugin'), wanted('mover')]);
    expect(certificateOf('worker').fingerprint256).toBe(wanted('worker'));
    await isUp('worker', workerIsConnected);
  }, 600_000);

  it('are put back when certificate and key do not belong together, and nothing is restarted', async () => {
    const before = await processes();
    const shown = await shownAt(8443);
    const key = fs.readFileSync(machine.path(consoleFiles.privateKeyFile), 'utf8');
    const { result, output } = await triggered(async () => {
      await replaceConsole();
      machine.replace(consoleFiles.privateKeyFile, key);
    });
    expect(output).toContain('certificate and key of tidemark-server.service cannot be used');
    expect(result).toBe('exit-code');
    expect(await restarted(before)).toEqual([]);
    const there = new X509Certificate(fs.readFileSync(machine.path(consoleFiles.certificateFile))).fingerprint256;
    expect(there).toBe(shown);
  }, 600_000);

  it('are all put back when a service does not come up with its own', async () => {
    const before = await processes();
    const shown = [await shownAt(8443), await shownAt(8446)];
    const { privateKeyPem } = await createAuthority('has another key');
    const made = [await newConsole(), await newIdentity('plugin', privateKeyPem)];
    const { result, output } = await triggered(() => made.forEach(({ put }) => put()));
    expect(output).toContain('tidemark-plugin.service does not come up');
    expect(output).toContain('the old files are back');
    expect(result).toBe('exit-code');
    expect(await restarted(before)).toEqual(['server', 'plugin']);
    expect([await shownAt(8443), await shownAt(8446)]).toEqual(shown);
    expect((await machine.must('stat', '-c', '%U %a', identityOf('plugin'))).trim()).toBe('tidemark 600');
    await allActive();
  }, 600_000);

  it('are noticed also when they are replaced while others are taken over', async () => {
    const made = await newIdentity('mover');
    await machine.must('touch', hold);
    const { output } = await triggered(async () => {
      await replaceConsole();
      // The script restarts the server, which waits.
      await eventually('its start', patienceMs, async () => (await machine.unit(unitOf('server'))).state === 'activating');
      made.put();
      await machine.must('rm', hold);
    });
    expect(output.match(/is up/g)).toHaveLength(2);
    expect(await shownAt(8447)).toBe(made.fingerprint);
    await allActive();
  }, 600_000);
});
