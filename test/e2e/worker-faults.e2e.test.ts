/**
 * Worker VMs that die, hang, are cut off, come up late or have a wrong clock; storage, repositories and memory that fill up and uploads that break
 * off; tokens that were used or are too old; a new CA: at seeded moments. Each time: nothing is left in the engine, older points are intact, and the job ends well or says why.
 * `TIDEMARK_SEED` chooses other moments. What runs in the VMs is their program as a process.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually, startNode } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import { lastWarnings } from '../harness/logs';
import { Site, endOf } from '../harness/site';
import type { Session, Task } from '../harness/site';
import { emptyWorkerImage } from '../harness/worker-image';

const seed = Number(process.env['TIDEMARK_SEED'] ?? '1');
const plan = {
  clusters: [
    { name: 'east', level: '4.6', hosts: ['east-1'] },
    { name: 'west', level: '4.6', hosts: ['west-1'] },
  ],
  networks: { clusters: { east: {}, west: {} } },
  vms: [
    {
      name: 'prey',
      cluster: 'east',
      disks: [
        { name: 'prey-a', sizeMib: 256, format: 'cow' },
        { name: 'prey-b', sizeMib: 128, format: 'cow', domain: 'data-2' },
      ],
    },
  ],
};
/** What an installation has anyway, in less time. */
const environment = {
  // Longer than a worker that is well may take to dial again on a machine with much to do.
  TIDEMARK_WORKER_VMS__LOST_MS: '20000',
  TIDEMARK_WORKER_VMS__ENROLMENT_MS: '120000',
  TIDEMARK_WORKER_VMS__TOKEN_MS: '12000',
  TIDEMARK_WORKER_VMS__SHUTDOWN_MS: '5000',
};
const mib = 1024 ** 2;
const root = path.resolve(__dirname, '..', '..', '..');

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly hostId?: string;
}
interface Disk {
  readonly id: string;
  readonly name: string;
  readonly description?: string;
}
interface Transfer {
  readonly id: string;
  readonly phase: string;
  readonly hostId?: string;
}

/** The same numbers for the same seed (mulberry32). */
function random(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

describe(`worker VMs in trouble (seed ${seed})`, () => {
  const next = random(seed * 2003);
  let site: Site;
  let oldest: Task;
  let staleToken: string;
  let staleSince: number;

  beforeAll(async () => {
    site = await Site.start({ plan, workerVms: 'process', installation: { environment }, settings: { retryDelaysMs: [500, 1000] } });
    staleToken = (await site.installation.cli('worker', 'enrol', '--minutes', '1')).trim();
    staleSince = Date.now();
    await site.installation.cli('worker', 'policy', '--beside-server', 'off', '--other-clusters', 'off');
    await site.lab.startVm('prey');
    await site.dirty('prey', 'prey-a', 0, 120, seed);
    await site.dirty('prey', 'prey-b', 16, 32, seed + 1);
    await site.installation.cli('job', 'create', 'prey', '--repository', 'main', '--vm', 'prey');
    await site.installation.cli('worker', 'deploy', '--cluster', 'east', '--name', 'east-a');
    const first = await site.run('prey');
    if (!first.tasks[0]?.pointId) throw new Error(JSON.stringify(first.tasks[0]?.failure));
    oldest = first.tasks[0];
  }, 360_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 180_000);

  const vm = async (name: string) => (await site.lab.entities<Vm>('vms')).find((one) => one.name === name);
  const names = async () => (await site.lab.entities<Vm>('vms')).map(({ name }) => name).sort();
  const disks = () => site.lab.entities<Disk>('disks');
  const transfers = () => site.lab.entities<Transfer>('transfers');
  const stateOf = async (name: string) => (await site.installation.json<{ state: string }>('worker', 'show', name)).state;
  /** Connected, or it was so a moment ago and dials again, as it does after a renewal. */
  const ready = () => eventually('the worker to be back', 180_000, async () => (await stateOf('east-a')) === 'connected', 300);
  const pluginLog = () => fs.readFileSync(path.join(site.installation.dataDir, 'log', 'plugin.log'), 'utf8');

  /** The image daemons stand still: what they transfer is not over before what is done meanwhile. Call what it returns to end it. */
  function hold(): () => void {
    const daemons = site.lab.imageDaemons;
    const tell = (signal: NodeJS.Signals) => {
      for (const pid of daemons) {
        try {
          process.kill(pid, signal);
        } catch (error) {
          // One that was killed meanwhile.
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        }
      }
    };
    tell('SIGSTOP');
    return () => tell('SIGCONT');
  }

  /** A moment of the first transfer of those that were not there before, which is {@link hold held} then; undefined when it was over too soon. */
  async function midTransfer(
    earlier: ReadonlySet<string>,
    withinMs: number,
  ): Promise<{ readonly transfer: Transfer; readonly goOn: () => void } | undefined> {
    const phaseOf = async (wanted: string) => (await transfers()).find(({ id }) => id === wanted)?.phase;
    const found = await eventually(
      'a transfer',
      180_000,
      async () => {
        const all = (await transfers()).filter(({ id }) => !earlier.has(id));
        const over = all.length > 0 && all.every(({ phase }) => phase.startsWith('finished')) ? 'over' : undefined;
        return all.find(({ phase }) => phase === 'transferring') ?? over;
      },
      20,
    );
    if (found === 'over') return undefined;
    await new Promise((resolve) => setTimeout(resolve, next() * withinMs));
    const goOn = hold();
    if ((await phaseOf(found.id)) === 'transferring') return { transfer: found, goOn };
    goOn();
    return undefined;
  }

  function ended(id: string): Promise<Session> {
    return eventually(
      'the end of the session',
      300_000,
      async () => {
        const session = await site.session('session', 'show', id);
        return session.endedAt ? session : undefined;
      },
      300,
    );
  }

  const idsOf = async () => new Set((await transfers()).map(({ id }) => id));

  /** Does something in the middle of a full backup, and gives the session as it ended; `held`: nothing is transferred until it is done. */
  async function during(what: () => Promise<unknown>, held: boolean): Promise<Session> {
    for (;;) {
      await site.dirty('prey', 'prey-a', 130 + Math.floor(next() * 100), 8, Math.floor(next() * 1e6));
      const earlier = await idsOf();
      const { id } = await site.session('job', 'run', 'prey', '--full', '--no-watch');
      const middle = await midTransfer(earlier, 400);
      if (middle && !held) middle.goOn();
      try {
        if (middle) await what();
      } finally {
        middle?.goOn();
      }
      const session = await ended(id);
      if (middle) return session;
    }
  }

  /** Nothing left, nothing lost; and what was taken is what the disk held. */
  async function expectSound(session: Session): Promise<void> {
    await engineClean(site.lab);
    expect(await site.pointDifferences(oldest)).toEqual([]);
    const [task] = session.tasks;
    expect([task?.state, task?.failure ?? null]).toEqual([expect.stringMatching(/success|warning/), null]);
    expect(await site.pointDifferences(task as Task)).toEqual([]);
    expect(task?.disks.map(({ workerHop }) => workerHop)).toEqual(['same-cluster', 'same-cluster']);
  }

  const lastReturn = async () => {
    const { items } = await site.installation.json<{ items: { id: number; code: string }[] }>('event', 'list');
    return Math.max(0, ...items.filter(({ code }) => code === 'WORKER_BACK').map(({ id }) => id));
  };
  const troubles: readonly [string, () => Promise<unknown>][] = [
    ['killed', () => site.lab.control('POST', '/vms/east-a/kill')],
    ['paused', () => site.lab.control('POST', '/vms/east-a/stall', { stalled: true })],
    ['cut off', () => site.lab.control('POST', '/vms/east-a/network', { cutOff: true })],
  ];

  it.each(troubles)(
    'a worker VM that is %s in the middle of a backup is started again, and the backup ends well',
    async (_, trouble) => {
      const earlier = await lastReturn();
      await expectSound(await during(trouble, true));
      await eventually('its VM to be started again', 180_000, async () => (await lastReturn()) > earlier);
      await ready();
      expect((await vm('east-a'))?.status).toBe('up');
    },
    900_000,
  );

  /** A file system of its own, in memory, for the time of `work`. */
  async function withSmallDisk<T>(folder: string, size: string, work: () => Promise<T>): Promise<T> {
    fs.mkdirSync(folder, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', folder]);
    try {
      return await work();
    } finally {
      await eventually('unmount', 120_000, () => {
        execFileSync('umount', [folder], { stdio: 'ignore' });
        return true;
      });
    }
  }

  it('a repository that gets full in the middle is told; older points stay, and the run goes on when there is space', async () => {
    const tight = path.join(site.folder, 'tight');
    await withSmallDisk(tight, '640m', async () => {
      const [repository, ballast] = [path.join(tight, 'repository'), path.join(tight, 'ballast')];
      await site.installation.cli('repository', 'add', 'tight', '--location', repository, '--no-encryption');
      await site.installation.cli('job', 'create', 'tight', '--repository', 'tight', '--vm', 'prey');
      const [older] = (await site.run('tight')).tasks;
      expect(older?.failure).toBeNull();
      // Above the mark under which no backup begins, below what this one writes.
      const { bavail, bsize } = fs.statfsSync(tight);
      const leftBytes = (20 + Math.floor(next() * 20)) * mib;
      fs.writeFileSync(ballast, Buffer.alloc(bavail * bsize - leftBytes));
      await site.dirty('prey', 'prey-a', 100, 80, Math.floor(next() * 1e6));
      const { id } = await site.session('job', 'run', 'tight', '--no-watch');
      // The try that met the end of the space has ended, and the next one waits below the hard mark.
      await eventually('the run to wait for room', 120_000, async () => {
        const [task] = (await site.session('session', 'show', id)).tasks;
        return task?.waitingReason === 'repo-full';
      });
      await engineClean(site.lab);
      expect(await site.pointDifferences(older as Task, repository)).toEqual([]);
      fs.rmSync(ballast);
      const again = await ended(id);
      expect(again.tasks[0]?.failure).toBeNull();
      for (const task of [older, again.tasks[0]]) expect(await site.pointDifferences(task as Task, repository)).toEqual([]);
      expect((await site.session('repository', 'verify', 'tight')).state).toBe('success');
      await engineClean(site.lab);
      await site.installation.cli('job', 'remove', 'tight');
      await site.installation.cli('repository', 'remove', 'tight');
    });
  }, 900_000);

  let versions = 0;

  /** A deployment into the other cluster that goes wrong by `what`, in the middle of the upload of another image, which is held meanwhile. */
  async function deployWith(name: string, what: (upload: Transfer) => Promise<unknown>): Promise<Session> {
    // A worker that has been idle for a minute gets the newer image otherwise.
    await site.installation.cli('worker', 'drain', 'east-a');
    try {
      for (;;) {
        const version = `0.${(versions += 1)}.0`;
        emptyWorkerImage(site.workerImages, version, 48);
        const earlier = await idsOf();
        const { id } = await site.session('worker', 'deploy', '--cluster', 'west', '--name', name, '--no-wait');
        const middle = await midTransfer(earlier, 150);
        try {
          if (middle) await what(middle.transfer);
        } finally {
          middle?.goOn();
        }
        const session = await ended(id);
        for (const file of fs.readdirSync(site.workerImages).filter((name) => name.includes(`-${version}.`)))
          fs.rmSync(path.join(site.workerImages, file));
        if (middle) return session;
        await site.installation.cli('worker', 'remove', name);
      }
    } finally {
      // The plug-in looks, and finds the older one again.
      await site.installation.cli('worker', 'image');
      await site.installation.cli('worker', 'resume', 'east-a');
    }
  }

  /** As it was before, in the end: no VM of the failed one, and no disk but images that are complete. */
  async function expectNoHalfWorker(): Promise<void> {
    await engineClean(site.lab);
    await eventually('nothing but what was there', 120_000, async () => {
      expect(await names()).toEqual(['east-a', 'prey']);
      const strange = (await disks()).filter(
        ({ name, description = '' }) => !/^(prey-|east-a)/.test(name) && !description.endsWith('state=complete'),
      );
      expect(strange).toEqual([]);
      return true;
    });
  }

  it('an upload of the image that breaks off is made good, or undone and explained', async () => {
    const session = await deployWith('west-a', async ({ hostId = '' }) => {
      await site.lab.control('POST', `/hosts/${hostId}/imageio/kill`);
      await new Promise((resolve) => setTimeout(resolve, 500 + next() * 1000));
      // As systemd does.
      await site.lab.control('POST', `/hosts/${hostId}/start`);
    });
    const [task] = session.tasks;
    if (endOf(session) === 'success') await site.installation.cli('worker', 'remove', 'west-a');
    else expect(task?.failure).toMatchObject({ code: expect.stringMatching(/^WORKER_|^ENGINE_/), message: expect.stringMatching(/\w{3}/) });
    await expectNoHalfWorker();
  }, 300_000);

  it('storage that is full before the disk is made leaves nothing half', async () => {
    const fill = (freeBytes?: number) =>
      Promise.all(
        ['data-1', 'data-2'].map((domain) =>
          site.lab.control('POST', `/storagedomains/${domain}/space`, freeBytes === undefined ? {} : { freeBytes }),
        ),
      );
    const session = await deployWith('west-b', () => fill(64 * mib));
    await fill();
    expect(session.state).toBe('failed');
    expect(session.tasks[0]?.failure?.message).toMatch(/space|free|storage/i);
    await expectNoHalfWorker();
  }, 300_000);

  it('a clock that is off by an hour fails the self-test or the enrolment, and says so', async () => {
    const offset = seed % 2 === 1 ? 3600 : -3600;
    await site.lab.control('POST', '/worker-vms', { clockOffsetSeconds: offset });
    const session = await site.session('worker', 'deploy', '--cluster', 'west', '--name', 'west-c');
    const before = await vm('east-a');
    const redeployed = await site.session('worker', 'redeploy', 'east-a');
    await site.lab.control('POST', '/worker-vms', { clockOffsetSeconds: 0 });
    expect(session.tasks[0]?.failure).toMatchObject(
      offset > 0
        ? { code: 'WORKER_SELF_TEST_FAILED', message: expect.stringMatching(/clock/i) }
        : { code: expect.stringMatching(/^WORKER_(SELF_TEST_FAILED|NOT_ENROLLED)$/) },
    );
    // A worker whose new VM is no good goes back to the one that it had.
    expect(redeployed.state).toBe('failed');
    expect(endOf(await site.session('worker', 'start', 'east-a'))).toBe('success');
    await ready();
    expect((await vm('east-a'))?.id).toBe(before?.id);
    await expectNoHalfWorker();
  }, 360_000);

  it('a token that was used, or is too old, enrols nobody', async () => {
    const known = await vm('east-a');
    const used = path.join(site.folder, 'used-drive');
    fs.cpSync(path.join(site.lab.access.dataDir, 'hosts', 'vms', known?.id ?? '', 'config-drive'), used, { recursive: true });
    const replayed = startNode(
      path.join(root, 'dist', 'worker', 'appliance', 'main.js'),
      ['--config-drive', used, '--data-folder', path.join(site.folder, 'replayed'), '--as-process'],
      path.join(site.folder, 'replayed.log'),
    );
    expect(await replayed.exited).toBe(4);
    const replayedLog = fs.readFileSync(path.join(site.folder, 'replayed.log'), 'utf8');
    expect(replayedLog).toContain('ENROLMENT_TOKEN_INVALID');
    expect(replayedLog).not.toContain('tmk1.');

    await new Promise((resolve) => setTimeout(resolve, Math.max(0, staleSince + 61_000 - Date.now())));
    const { plugin } = JSON.parse(fs.readFileSync(path.join(site.installation.dataDir, 'worker', 'config.json'), 'utf8')) as {
      plugin: object;
    };
    const tokenFile = path.join(site.folder, 'stale-token');
    fs.writeFileSync(tokenFile, staleToken, { mode: 0o600 });
    const config = path.join(site.folder, 'stale.json');
    fs.writeFileSync(
      config,
      JSON.stringify({ dataFolder: path.join(site.folder, 'stale'), plugin: { ...plugin, enrolmentTokenFile: tokenFile } }),
    );
    const log = path.join(site.folder, 'stale.log');
    const stale = startNode(path.join(root, 'dist', 'worker', 'main.js'), ['--config', config], log);
    expect(await stale.exited).not.toBe(0);
    expect(fs.readFileSync(log, 'utf8')).toContain('ENROLMENT_TOKEN');
    const { items } = await site.installation.json<{ items: { name: string }[] }>('worker', 'list');
    expect(items.filter(({ name }) => name === 'east-a')).toHaveLength(1);
    expect(items).toHaveLength(2);
    await ready();
  }, 420_000);

  it('a worker VM that comes up when its token is good no more is started again with another one', async () => {
    await site.lab.control('POST', '/worker-vms', { bootDelaySeconds: 14 + Math.floor(next() * 4) });
    const { id } = await site.session('worker', 'deploy', '--cluster', 'west', '--name', 'west-d', '--no-wait');
    const consoleText = async () => {
      const vmId = (await vm('west-d'))?.id;
      if (vmId === undefined) return '';
      return (await site.lab.control<{ text: string }>('GET', `/vms/${vmId}/console`)).text;
    };
    const shown = new Set<string>();
    let over = false;
    const watching = (async () => {
      // A console is that of the last start; there is none before the first.
      for (; !over; await new Promise((resolve) => setTimeout(resolve, 100))) shown.add(await consoleText().catch(() => ''));
    })();
    const session = await ended(id).finally(() => {
      over = true;
    });
    await watching;
    expect([endOf(session), session.tasks[0]?.failure ?? null]).toEqual(['success', null]);
    expect(pluginLog().match(/came up too late for its token.*"name":"west-d"/g)?.length).toBeGreaterThan(0);
    expect(await stateOf('west-d')).toBe('connected');
    expect(await consoleText()).toMatch(/worker: runs/);
    shown.add(await consoleText());
    for (const text of shown) expect(text).not.toContain('tmk1.');
    const { items } = await site.installation.json<{ items: { name: string }[] }>('worker', 'list');
    expect(items.filter(({ name }) => name === 'west-d')).toHaveLength(1);
    expect((await site.session('worker', 'remove', 'west-d')).state).toBe('success');
    await expectNoHalfWorker();
  }, 300_000);

  it('memory that a worker writes to and that is full stops no backup, and is told', async () => {
    const scratch = path.join(site.lab.access.dataDir, 'hosts', 'vms', (await vm('east-a'))?.id ?? '', 'worker');
    const overlap = async () => (await site.installation.json<{ overlap: object | null }>('cert', 'status')).overlap;
    await withSmallDisk(scratch, '64k', async () => {
      expect(() => fs.writeFileSync(path.join(scratch, 'ballast'), Buffer.alloc(mib))).toThrow(/ENOSPC/);
      // What makes a worker write in the middle of its work: new trust.
      const session = await during(() => site.installation.cli('cert', 'rotate-ca'), false);
      await expectSound(session);
      expect(session.tasks[0]?.notes.filter(({ code }) => code === 'worker-lost')).toEqual([]);
      await ready();
      const tested = await site.installation.tryCli('worker', 'test', 'east-a');
      expect([tested.code, tested.stdout]).toEqual([1, expect.stringMatching(/scratch[^]*(ENOSPC|nothing can be written)/)]);
      // Nobody takes the old CA away from a worker that could not keep the new one.
      expect(await overlap()).not.toBeNull();
      await ready();
    });
    await eventually('the worker to follow', 240_000, async () => (await overlap()) === null, 500);
    await ready();
  }, 900_000);

  it('a new CA while a backup runs interrupts nothing', async () => {
    const session = await during(() => site.installation.cli('cert', 'rotate-ca'), false);
    await expectSound(session);
    const lost = session.tasks[0]?.notes.filter(({ code }) => code === 'worker-lost');
    if (lost?.length !== 0) console.info(lastWarnings());
    expect(lost).toEqual([]);
    await eventually('the old CA to be gone', 240_000, async () => {
      const { overlap } = await site.installation.json<{ overlap: object | null }>('cert', 'status');
      return overlap === null || undefined;
    });
    await ready();
    const after = await site.run('prey');
    await expectSound(after);
    expect((await site.session('repository', 'verify', 'main')).state).toBe('success');
  }, 360_000);
});
