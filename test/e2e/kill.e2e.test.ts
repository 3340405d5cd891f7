/**
 * SIGKILL of any one process at seeded moments of a backup or a restore. Each time: older points stay readable, the engine is clean within a minute,
 * the repository verifies, and the next run succeeds. `TIDEMARK_SEED` chooses other moments.
 */
import { eventually } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const seed = Number(process.env['TIDEMARK_SEED'] ?? '1');
const victims = ['server', 'plugin', 'worker', 'mover', 'imageio', 'qemu', 'engine'] as const;
type Victim = (typeof victims)[number];

const plan = {
  vms: [
    {
      name: 'prey',
      cluster: 'Level46',
      disks: [
        { name: 'prey-a', sizeMib: 512, format: 'cow' },
        { name: 'prey-b', sizeMib: 128, format: 'cow', domain: 'data-2' },
      ],
    },
  ],
};

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

describe(`kill -9 (seed ${seed})`, () => {
  const next = random(seed * 1009);
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
  }, 180_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 60_000);

  async function kill(victim: Victim): Promise<void> {
    switch (victim) {
      case 'imageio':
      case 'qemu': {
        const vm = (await site.lab.entities<{ name: string; hostId?: string }>('vms')).find(({ name }) => name === 'prey');
        if (victim === 'qemu') await site.lab.control('POST', '/vms/prey/kill');
        else await site.lab.control('POST', `/hosts/${vm?.hostId}/imageio/kill`);
        return;
      }
      case 'engine':
        return site.lab.kill();
      default:
        site.installation.kill(victim);
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
    const vm = (await site.lab.entities<{ name: string; status: string }>('vms')).find(({ name }) => name === 'prey');
    if (vm?.status !== 'up') {
      await eventually('the VM to be down', 60_000, async () => {
        const now = (await site.lab.entities<{ name: string; status: string }>('vms')).find(({ name }) => name === 'prey');
        return now?.status === 'down' || now?.status === 'up' || undefined;
      });
      await eventually('the VM to start', 60_000, async () => {
        await site.lab.startVm('prey');
        return true;
      });
    }
  }

  async function ended(sessionId: string): Promise<Session> {
    return eventually(
      'the end of the session',
      150_000,
      async () => {
        const session = await site.session('session', 'show', sessionId);
        return session.endedAt ? session : undefined;
      },
      500,
    );
  }

  async function expectSound(what: string): Promise<void> {
    await engineClean(site.lab, 60_000);
    expect([what, await site.pointDifferences(oldest)]).toEqual([what, []]);
    const again = await site.run('prey');
    expect([what, again.tasks[0]?.failure?.message ?? again.state]).toEqual([what, expect.stringMatching(/success|warning/)]);
    for (const task of again.tasks) expect([what, await site.pointDifferences(task)]).toEqual([what, []]);
    const verified = await site.session('repository', 'verify', 'main');
    expect([what, verified.state]).toEqual([what, 'success']);
    await engineClean(site.lab, 60_000);
  }

  it.each(victims)(
    'of the %s in the middle of a backup loses nothing',
    async (victim) => {
      await site.dirty('prey', 'prey-a', 128 + Math.floor(next() * 200), 8, Math.floor(next() * 1e6));
      const started = await site.session('job', 'run', 'prey', '--full', '--no-watch');
      await new Promise((resolve) => setTimeout(resolve, 100 + next() * 2500));
      await kill(victim);
      await bringBack(victim);
      await ended(started.id);
      await expectSound(victim);
    },
    240_000,
  );

  it.each(['plugin', 'worker', 'mover', 'engine'] as const)(
    'of the %s in the middle of a restore leaves no half VM',
    async (victim) => {
      const name = `copy-${victim}`;
      const started = await site.session('restore', 'vm', oldest.pointId ?? '', '--name', name, '--no-watch');
      await new Promise((resolve) => setTimeout(resolve, 200 + next() * 1500));
      await kill(victim);
      await bringBack(victim);
      const session = await ended(started.id);
      await engineClean(site.lab, 60_000);
      const vms = await site.lab.entities<{ id: string; name: string }>('vms');
      const disks = await site.lab.entities<{ name: string }>('disks');
      const copies = disks.filter((disk) => disk.name === 'prey-a').length - 1;
      if (session.state === 'success' || session.state === 'warning') {
        const made = vms.find((vm) => vm.name === name);
        expect(made).toBeDefined();
        await site.lab.api('DELETE', `/vms/${made?.id}`);
        await eventually(
          'the copy to be gone',
          60_000,
          async () => (await site.lab.entities<{ name: string }>('vms')).every((vm) => vm.name !== name) || undefined,
        );
      } else {
        expect(vms.some((vm) => vm.name === name)).toBe(false);
        expect(copies).toBe(0);
      }
    },
    240_000,
  );
});
