/**
 * The CA and all certificates change while backups run, while a mover is off, and while the server is killed; every role alone, on an address of its
 * own, so that each follows by its own heartbeats.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import type { Child } from '../harness/child';
import { acceptedConnections } from '../harness/connections';
import { engineClean } from '../harness/engine-state';
import type { Installation } from '../harness/installation';
import { Site } from '../harness/site';

const plan = {
  vms: [{ name: 'long', cluster: 'Level46', nics: 1, disks: [{ name: 'long-a', sizeMib: 512, format: 'cow' }] }],
};
const [serverAddress, pluginAddress, moverAddress] = ['127.0.7.2', '127.0.7.3', '127.0.7.4'];

/** What docs/operations/certificates.md promises, and a little for a machine that is busy. */
const drainBoundMs = 170_000;

/** What the running backup reads. */
const dataBytes = 256 * 1024 ** 2;
/** Half of what a worker waits for an image daemon. */
const seldomMs = 30_000;

interface RotationState {
  readonly overlap: { readonly endsAt: string } | null;
  readonly authorities: readonly string[];
  readonly missing: readonly { readonly role: string; readonly connected: boolean }[];
  readonly finished: { readonly missing: readonly { readonly id: string; readonly name: string }[] } | null;
}

describe('a rotation', () => {
  let site: Site;
  const roles = new Map<string, Child>();

  async function startRoles(installation: Installation): Promise<void> {
    const listen = { address: pluginAddress, port: 8446, enrolmentPort: 8448 };
    roles.set('plugin', await installation.startRole('plugin', { listen, addresses: [pluginAddress] }));
    const moverListen = { address: moverAddress, port: 8447, dataPort: 8445 };
    roles.set('mover', await installation.startRole('mover', { listen: moverListen, addresses: [moverAddress] }));
    const plugin = { endpoint: `${pluginAddress}:8446`, enrolmentEndpoint: `${pluginAddress}:8448` };
    roles.set('worker', await installation.startRole('worker', { plugin }));
  }

  beforeAll(async () => {
    site = await Site.start({ plan, installation: { allInOne: false, address: serverAddress }, roles: startRoles });
    await eventually('the worker', 120_000, async () => {
      const { items } = await site.installation.json<{ items: { state: string }[] }>('worker', 'list');
      return items.some((worker) => worker.state === 'connected') || undefined;
    });
    await site.lab.startVm('long');
    await site.dirty('long', 'long-a', 0, dataBytes / 1024 ** 2, 5);
    await site.installation.cli('job', 'create', 'long', '--repository', 'main', '--vm', 'long');
  }, 360_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 180_000);

  const rotateCa = async () => {
    const { code, stdout } = await site.installation.tryCli('cert', 'rotate-ca', '--wait', '--json');
    return { code, state: JSON.parse(stdout) as RotationState };
  };
  const serialOf = (role: string) => {
    const file = path.join(site.installation.folder, role, 'data', 'identity', 'identity.json');
    return (JSON.parse(fs.readFileSync(file, 'utf8')) as { certificateChainPem: string }).certificateChainPem;
  };
  const pinned = () => (JSON.parse(fs.readFileSync(path.join(site.installation.folder, 'cli.json'), 'utf8')) as { caPem: string }).caPem;
  /** Whoever waits there shows no certificate. */
  const consolePort = () => {
    const endpoints = fs.readFileSync(path.join(site.installation.dataDir, 'endpoints.json'), 'utf8');
    return Number(new URL((JSON.parse(endpoints) as { console: string }).console).port);
  };
  const currentCa = () => fs.readFileSync(path.join(site.installation.dataDir, 'ca.pem'), 'utf8');

  /**
   * Lets the image daemons run for a moment now and then, so that a backup outlasts what happens beside it: every few seconds, but seldom, as far as
   * their clients bear it, once they have written what they may by then (a busy machine makes a moment long).
   */
  function slowDown(daemons: readonly number[]): { writtenBytes(): number; end(): void } {
    const tell = (signal: NodeJS.Signals) => daemons.forEach((pid) => process.kill(pid, signal));
    const written = () =>
      daemons
        .map((pid) => Number(/wchar: (\d+)/.exec(fs.readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? 0))
        .reduce((sum, bytes) => sum + bytes, 0);
    tell('SIGSTOP');
    const [before, began] = [written(), performance.now()];
    const writtenBytes = () => written() - before;
    let last = began;
    const timer = setInterval(() => {
      const now = performance.now();
      const mayHave = ((now - began) / drainBoundMs) * (dataBytes / 2);
      if (now - last < seldomMs && writtenBytes() > mayHave) return;
      last = now;
      // By a process of its own: this one may have much to do just when it should stop them.
      execFileSync('sh', ['-c', `kill -CONT ${daemons.join(' ')}; sleep 0.01; kill -STOP ${daemons.join(' ')}`]);
    }, 4_000);
    return {
      writtenBytes,
      end: () => {
        clearInterval(timer);
        tell('SIGCONT');
      },
    };
  }

  it('of the CA passes by a running backup, and no connection from before outlasts it for long', async () => {
    const before = currentCa();
    const running = site.run('long');
    const daemons = site.lab.imageDaemons;
    await eventually(
      'the transfer',
      180_000,
      async () => {
        const all = await site.lab.entities<{ phase: string }>('transfers');
        return all.some(({ phase }) => phase === 'transferring');
      },
      20,
    );
    const slow = slowDown(daemons);
    try {
      // The worker reads, and has all the connections that it needs.
      await eventually('something read', 180_000, () => slow.writtenBytes() > 1024 ** 2);
      const between = () => acceptedConnections([serverAddress, pluginAddress, moverAddress], consolePort());
      const old = between();
      expect(old.size).toBeGreaterThan(4);
      const { code, state } = await rotateCa();
      expect(state).toMatchObject({ overlap: null, missing: [], authorities: [expect.any(String)] });
      expect(code).toBe(0);
      await eventually('the end of old connections', drainBoundMs, () => {
        const now = between();
        const left = [...old].filter((one) => now.has(one));
        if (left.length > 0) throw new Error(left.join(', '));
        return true;
      });
      const { items } = await site.installation.json<{ items: { state: string }[] }>('session', 'list');
      expect(items[0]?.state).toBe('running');
    } finally {
      slow.end();
    }
    expect(currentCa()).not.toBe(before);
    const session = await running;
    const [task] = session.tasks;
    expect(task).toMatchObject({ state: 'success', failure: null });
    // All of it was read, and once.
    expect(task!.disks.map(({ counters }) => counters.readBytes)).toEqual(task!.disks.map(({ counters }) => counters.plannedBytes));
    expect(await site.pointDifferences(task!)).toEqual([]);
    // The command line was logged in with the CA that is gone.
    await site.installation.cli('cert', 'list');
    expect(pinned()).toBe(currentCa());
    await engineClean(site.lab);
  }, 900_000);

  it('of all certificates interrupts nobody', async () => {
    const before = ['plugin', 'mover', 'worker'].map(serialOf);
    expect((await site.installation.tryCli('cert', 'rotate', '--wait')).code).toBe(0);
    const after = ['plugin', 'mover', 'worker'].map(serialOf);
    expect(after.filter((chain) => before.includes(chain))).toEqual([]);
    await site.dirty('long', 'long-a', 400, 2, 6);
    const [task] = (await site.run('long')).tasks;
    expect(task).toMatchObject({ state: 'success', disks: [{ mode: 'incremental' }] });
  }, 900_000);

  it('waits for a mover that is off, over a kill of the server, and takes it back with its old certificate', async () => {
    await roles.get('mover')?.stop();
    const { code, state } = await rotateCa();
    expect(state).toMatchObject({ overlap: { endsAt: expect.any(String) }, missing: [{ role: 'mover', connected: false }] });
    expect(code).toBe(3);
    site.installation.kill('server');
    await site.installation.start();
    expect((await standing()).authorities).toEqual(state.authorities);
    const old = serialOf('mover');
    roles.set('mover', site.installation.startRoleAgain('mover'));
    await eventually('the end of the overlap', 180_000, async () => (await standing()).overlap === null, 500);
    expect(serialOf('mover')).not.toBe(old);
    // The plug-in, too, has found the server again.
    await allAreBack();
    await site.dirty('long', 'long-a', 410, 2, 7);
    const [task] = (await site.run('long')).tasks;
    expect(task).toMatchObject({ state: 'success', disks: [{ mode: 'incremental' }] });
    expect(await site.pointDifferences(task!)).toEqual([]);
    await engineClean(site.lab);
  }, 900_000);

  const standing = () => site.installation.json<RotationState>('cert', 'status');
  const logOf = (role: 'mover' | 'worker') => fs.readFileSync(path.join(site.installation.folder, role, `${role}.log`), 'utf8');
  const allAreBack = () =>
    eventually('plug-in, mover and worker', 180_000, async () => {
      for (const role of ['plugin', 'mover', 'worker']) {
        const { items } = await site.installation.json<{ items: { state: string }[] }>(role, 'list');
        if (!items.some(({ state }) => state === 'connected')) throw new Error(`the ${role} is not connected`);
      }
      return true;
    });

  it('waits for a worker that is off, and takes it back with its old certificate', async () => {
    await roles.get('worker')?.stop();
    const { code, state } = await rotateCa();
    expect(state).toMatchObject({ overlap: { endsAt: expect.any(String) }, missing: [{ role: 'worker', connected: false }] });
    expect(code).toBe(3);
    const old = serialOf('worker');
    roles.set('worker', site.installation.startRoleAgain('worker'));
    await eventually('the end of the overlap', 180_000, async () => (await standing()).overlap === null, 500);
    expect(serialOf('worker')).not.toBe(old);
    await allAreBack();
    await site.dirty('long', 'long-a', 420, 2, 8);
    const [task] = (await site.run('long')).tasks;
    expect(task).toMatchObject({ state: 'success', disks: [{ mode: 'incremental' }] });
  }, 900_000);

  it('gives up those that were off for longer than the overlap, says so on both sides, and what it says helps', async () => {
    for (const role of ['mover', 'worker']) await roles.get(role)?.stop();
    const { state } = await rotateCa();
    expect(state.missing.map(({ role }) => role).sort()).toEqual(['mover', 'worker']);
    // The days go by.
    await site.installation.stop();
    const file = path.join(site.installation.dataDir, 'identity', 'authority.json');
    const authority = JSON.parse(fs.readFileSync(file, 'utf8')) as { rotation: { overlapEndsAt: string } };
    authority.rotation.overlapEndsAt = new Date(Date.now() - 1_000).toISOString();
    fs.writeFileSync(file, JSON.stringify(authority));
    await site.installation.start();
    roles.set('plugin', site.installation.startRoleAgain('plugin'));
    const gone = await eventually('the end of the overlap', 180_000, async () => {
      const { overlap, finished } = await standing();
      return overlap === null ? finished?.missing : undefined;
    });
    expect(gone.map(({ name }) => name.split(' ')[0]).sort()).toEqual(['mover', 'worker']);
    const moverId = gone.find(({ name }) => name.startsWith('mover'))?.id ?? '';
    for (const role of ['mover', 'worker'] as const) {
      roles.set(role, site.installation.startRoleAgain(role));
      await eventually(`the refusal of the ${role}`, 180_000, () => logOf(role).includes('CERTIFICATE_NOT_ACCEPTED'));
      expect(logOf(role)).toContain(`tidemark ${role} enrol`);
    }
    await eventually('the refusals, as the server tells them', 180_000, async () => {
      const { items } = await site.installation.json<{ items: { code: string; message: string }[] }>('event', 'list');
      const refused = items.filter(({ code }) => code === 'PEER_REFUSED').map(({ message }) => message);
      return refused.some((message) => message.includes(`tidemark mover enrol --again ${moverId}`));
    });
    for (const role of ['mover', 'worker'] as const) {
      await roles.get(role)?.stop();
      const folder = path.join(site.installation.folder, role);
      const again = role === 'mover' ? ['--again', moverId] : [];
      fs.writeFileSync(path.join(folder, 'token'), await site.installation.cli(role, 'enrol', ...again));
      fs.rmSync(path.join(folder, 'data', 'identity'), { recursive: true });
      roles.set(role, site.installation.startRoleAgain(role));
    }
    await allAreBack();
    // A worker is another one when it enrols anew.
    await site.installation.cli('cert', 'revoke', gone.find(({ name }) => name.startsWith('worker'))?.id ?? '');
    await site.dirty('long', 'long-a', 430, 2, 9);
    const [task] = (await site.run('long')).tasks;
    expect(task).toMatchObject({ state: 'success', disks: [{ mode: 'incremental' }] });
    expect(await site.pointDifferences(task!)).toEqual([]);
    await engineClean(site.lab);
  }, 900_000);

  it('leaves nothing but certificates with days left, those of engine and hosts too', async () => {
    const { items } = await site.installation.json<{ items: { kind: string; state: string; daysLeft: number | null }[] }>(
      ...['cert', 'list', '--refresh'],
    );
    const own = items.filter(({ kind }) => !kind.startsWith('engine'));
    expect(own.map(({ kind }) => kind)).toEqual(['ca', 'host', 'plugin', 'mover', 'worker']);
    expect(new Set(own.map(({ state }) => state))).toEqual(new Set(['valid']));
    const seen = new Set(items.filter(({ kind }) => kind.startsWith('engine')).map(({ kind }) => kind));
    expect([...seen].sort()).toEqual(['engine-ca', 'engine-host', 'engine-proxy', 'engine-web']);
    expect(items.find(({ kind }) => kind === 'engine-web')).toMatchObject({ state: expect.stringMatching(/valid|expiring/) });
  });
});
