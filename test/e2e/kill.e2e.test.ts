/**
 * SIGKILL of any one process at seeded moments of a backup or a restore. Each time: older points stay readable, the engine is clean within a minute,
 * the repository verifies, and the next run succeeds. `TIDEMARK_SEED` chooses other moments; four seeds in a row meet every process at every
 * stage.
 */
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { imageDifference } from '../harness/compare';
import { engineClean } from '../harness/engine-state';
import { randomFrom } from '../harness/random';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const seed = Number(process.env['TIDEMARK_SEED'] ?? '1');
const duringBackup = ['server', 'plugin', 'worker', 'engine', 'mover', 'qemu', 'imageio'] as const;
const duringRestore = ['plugin', 'server', 'mover', 'imageio', 'worker', 'engine'] as const;
type Victim = (typeof duringBackup)[number];

const stages = ['transferring', 'starting', 'transferring', 'ending'] as const;
type Stage = (typeof stages)[number];

/** Each victim with the stage that the seed gives it. */
function atStages(victims: readonly Victim[]): [Victim, Stage][] {
  return victims.map((victim, index) => [victim, stages[(index + seed - 1) % stages.length] ?? 'transferring']);
}

interface Transfer {
  readonly id: string;
  readonly phase: string;
  readonly hostId?: string;
}

const plan = {
  vms: [
    {
      name: 'prey',
      cluster: 'Level46',
      disks: [
        { name: 'prey-a', sizeMib: 256, format: 'cow' },
        { name: 'prey-b', sizeMib: 128, format: 'cow', domain: 'data-2' },
      ],
    },
  ],
};

const diskCount = plan.vms.flatMap((vm) => vm.disks).length;

describe(`kill -9 (seed ${seed})`, () => {
  const next = randomFrom(seed * 1009);
  let site: Site;
  let oldest: Task;

  beforeAll(async () => {
    site = await Site.start({ plan, settings: { retryDelaysMs: [500, 1000] } });
    await site.lab.startVm('prey');
    await site.dirty('prey', 'prey-a', 0, 120, seed);
    await site.dirty('prey', 'prey-b', 16, 32, seed + 1);
    await site.installation.cli('job', 'create', 'prey', '--repository', 'main', '--vm', 'prey');
    const first = await site.run('prey');
    if (!first.tasks[0]?.pointId) throw new Error(JSON.stringify(first.tasks[0]?.failure));
    oldest = first.tasks[0];
  }, 600_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 600_000);

  const transfers = () => site.lab.entities<Transfer>('transfers');

  /** Waits for a moment of the stage, in what was started when only the `earlier` transfers were there. */
  async function momentOf(stage: Stage, earlier: ReadonlySet<string>): Promise<void> {
    if (stage !== 'starting') {
      await eventually(
        `the stage ${stage}`,
        240_000,
        async () => {
          const ours = (await transfers()).filter(({ id }) => !earlier.has(id));
          const finished = ours.filter(({ phase }) => phase.startsWith('finished')).length;
          // Nothing that was transferred while nobody looked is waited for.
          if (stage === 'transferring') return finished > 0 || ours.some(({ phase }) => phase === 'transferring');
          return finished >= diskCount;
        },
        20,
      );
    }
    const withinMs = { starting: 2000, transferring: 500, ending: 1200 }[stage];
    await new Promise((resolve) => setTimeout(resolve, next() * withinMs));
  }

  async function kill(victim: Victim): Promise<void> {
    switch (victim) {
      case 'imageio': {
        const [transfer] = (await transfers()).filter(({ phase }) => phase === 'transferring');
        const vm = (await site.lab.entities<{ name: string; hostId?: string }>('vms')).find(({ name }) => name === 'prey');
        return site.lab.control('POST', `/hosts/${transfer?.hostId ?? vm?.hostId}/imageio/kill`);
      }
      case 'qemu':
        return site.lab.control('POST', '/vms/prey/kill');
      case 'engine':
        return site.lab.kill();
      default:
        // One that was killed before may just be starting.
        await eventually(`a ${victim} to kill`, 120_000, () => {
          site.installation.kill(victim);
          return true;
        });
    }
  }

  /** What an administrator's service manager or cluster does after such a death. */
  async function bringBack(victim: Victim): Promise<void> {
    if (victim === 'server') await site.installation.start();
    if (victim === 'engine') {
      await site.lab.start();
      await site.lab.control('POST', '/captures', { folder: site.captures });
    }
    if (victim === 'imageio') {
      for (const { id } of await site.lab.entities<{ id: string }>('hosts')) await site.lab.control('POST', `/hosts/${id}/start`);
    }
    if (victim === 'qemu') {
      const status = async () =>
        (await site.lab.entities<{ name: string; status: string }>('vms')).find(({ name }) => name === 'prey')?.status;
      await eventually('the engine to see that the VM is down', 240_000, async () => (await status()) === 'down' || undefined);
      // Refused as long as the interrupted backup has its disks.
      await eventually('the VM to start', 240_000, async () => {
        await site.lab.startVm('prey');
        return true;
      });
    }
  }

  async function ended(sessionId: string): Promise<Session> {
    return eventually(
      'the end of the session',
      300_000,
      async () => {
        const session = await site.session('session', 'show', sessionId);
        return session.endedAt ? session : undefined;
      },
      500,
    );
  }

  /** Copies that the plug-in keeps of a journal that it could not read whole. */
  function damagedJournals(): string[] {
    return fs.readdirSync(path.join(site.installation.dataDir, 'plugin', 'journal')).filter((name) => name.includes('damaged'));
  }

  async function expectSound(what: string): Promise<void> {
    await engineClean(site.lab);
    expect([what, await site.pointDifferences(oldest)]).toEqual([what, []]);
    const again = await site.run('prey');
    expect([what, again.tasks[0]?.failure?.message ?? again.state]).toEqual([what, expect.stringMatching(/success|warning/)]);
    for (const task of again.tasks) expect([what, await site.pointDifferences(task)]).toEqual([what, []]);
    const verified = await site.session('repository', 'verify', 'main');
    expect([what, verified.state]).toEqual([what, 'success']);
    await engineClean(site.lab);
    expect([what, damagedJournals()]).toEqual([what, []]);
  }

  /** Every disk of the oldest point against that of a VM restored from it; the differences, empty when there is none. */
  async function restoredDifferences(vmId: string | undefined): Promise<string[]> {
    const attachments = await site.lab.entities<{ vmId: string; diskId: string }>('attachments');
    const mine = new Set(attachments.filter((attachment) => attachment.vmId === vmId).map(({ diskId }) => diskId));
    const disks = (await site.lab.entities<{ id: string; name: string }>('disks')).filter(({ id }) => mine.has(id));
    const differences: string[] = [];
    for (const { name, diskId } of oldest.disks) {
      const file = path.join(site.folder, 'restored.raw');
      await site.lab.control('POST', `/disks/${disks.find((disk) => disk.name === name)?.id}/dump`, { file });
      const difference = await imageDifference(site.captureOf(oldest.sessionId, diskId), file);
      if (difference !== undefined) differences.push(`${name}: ${difference}`);
      fs.rmSync(file);
    }
    return differences;
  }

  /**
   * Starts something, kills in the middle of it, and gives the session as it ended. What was over before, on a machine that did other things between look
   * and kill, is done again after `undo`.
   */
  async function interrupted(victim: Victim, stage: Stage, start: () => Promise<Session>, undo?: () => Promise<void>): Promise<Session> {
    for (;;) {
      const earlier = new Set((await transfers()).map(({ id }) => id));
      const started = await start();
      await momentOf(stage, earlier);
      const killedAt = Date.now();
      await kill(victim);
      await bringBack(victim);
      const session = await ended(started.id);
      // The end itself is not far from the last stage's moments, and is one of them.
      if (stage === 'ending' || Date.parse(session.endedAt ?? '') > killedAt) return session;
      expect(session.state).toMatch(/success|warning/);
      await engineClean(site.lab);
      await undo?.();
    }
  }

  it.each(atStages(duringBackup))(
    'of the %s while a backup is %s loses nothing',
    async (victim, stage) => {
      await site.dirty('prey', 'prey-a', 128 + Math.floor(next() * 100), 8, Math.floor(next() * 1e6));
      await interrupted(victim, stage, () => site.session('job', 'run', 'prey', '--full', '--no-watch'));
      await expectSound(victim);
    },
    900_000,
  );

  it.each(atStages(duringRestore))(
    'of the %s while a restore is %s leaves no half VM',
    async (victim, stage) => {
      const name = `copy-${victim}`;
      const made = async () => (await site.lab.entities<{ id: string; name: string }>('vms')).filter((vm) => vm.name === name);
      const copies = async () =>
        (await site.lab.entities<{ name: string }>('disks')).filter((disk) => disk.name.startsWith('prey-')).length - diskCount;
      // The session may end before the janitor has removed the last thing; it has a minute.
      const left = (what: string, vms: number, disks: number) =>
        eventually(what, 240_000, async () => {
          const found = [(await made()).length, await copies()];
          if (found[0] !== vms || found[1] !== disks) throw new Error(`there are ${found[0]} VMs, and ${found[1]} disks`);
          return true;
        });
      const removeCopy = async () => {
        await site.lab.api('DELETE', `/vms/${(await made())[0]?.id}`);
        await left('the copy to be gone', 0, 0);
      };
      const restore = () => site.session('restore', 'vm', oldest.pointId ?? '', '--name', name, '--no-watch');
      const session = await interrupted(victim, stage, restore, removeCopy);
      await engineClean(site.lab);
      if (session.state === 'success' || session.state === 'warning') {
        await left('one whole VM', 1, diskCount);
        expect(await restoredDifferences((await made())[0]?.id)).toEqual([]);
        await removeCopy();
      } else await left('no half VM', 0, 0);
    },
    900_000,
  );
});
