import { eventually } from './child';
import type { Lab } from './lab';

interface Progress {
  readonly endedAt: string | null;
  readonly tasks: readonly {
    readonly disks: readonly { readonly counters: { readonly readBytes: number; readonly plannedBytes: number } }[];
  }[];
}

interface Transfer {
  readonly id: string;
  readonly phase: string;
  readonly transferredBytes: number;
}

export interface Middle<S extends Progress> {
  /** Its image daemon is held. */
  readonly hostId: string;
  /** Starts a backup of a VM of the host, alone; resolves with its session. Called again when one was over too soon: each has something to read. */
  readonly start: () => Promise<string>;
  readonly show: (sessionId: string) => Promise<S>;
  readonly moreThanBytes: number;
}

const pieceMs = 200;

/** Holds the image daemon of a host while something is done: nothing is read meanwhile. For seconds; readers give up after a minute. */
export async function whileHeld<T>(lab: Lab, hostId: string, work: () => Promise<T>): Promise<T> {
  const route = `/hosts/${hostId}/imageio/stall`;
  await lab.control('POST', route, { stalled: true });
  try {
    return await work();
  } finally {
    await lab.control('POST', route, { stalled: false });
  }
}

/**
 * Does something in the middle of a backup, after so many bytes and before all are read, however the speeds of the machine's parts are to each other:
 * reading is held while progress is looked at and `strike` is at work, and a backup that was too quick does not count. Resolves with the session that was
 * struck.
 */
export async function inTheMiddle<S extends Progress>(lab: Lab, middle: Middle<S>, strike: (before: S) => Promise<void>): Promise<string> {
  const { hostId, start, show, moreThanBytes } = middle;
  const transfers = () => lab.entities<Transfer>('transfers');
  for (;;) {
    const earlier = new Set((await transfers()).map(({ id }) => id));
    const sessionId = await start();
    // The engine is asked quickly; what it knows is late rather than early.
    await eventually(
      'some of the disks to be read',
      240_000,
      async () => {
        const ours = (await transfers()).filter(({ id }) => !earlier.has(id));
        const isRead = ours.reduce((sum, one) => sum + one.transferredBytes, 0) > moreThanBytes;
        return isRead || (ours.length > 0 && ours.every(({ phase }) => phase.startsWith('finished')));
      },
      20,
    );
    for (let over = false; !over;) {
      const struck = await whileHeld(lab, hostId, async () => {
        const before = await settled(() => show(sessionId));
        const [readBytes, plannedBytes] = [sumOf(before, 'readBytes'), sumOf(before, 'plannedBytes')];
        over = before.endedAt !== null || (plannedBytes > 0 && readBytes >= plannedBytes);
        if (over || readBytes <= moreThanBytes) return false;
        await strike(before);
        return true;
      });
      if (struck) return sessionId;
      await new Promise((resolve) => setTimeout(resolve, pieceMs));
    }
    await eventually('the end of a backup that was too quick', 240_000, async () => (await show(sessionId)).endedAt !== null, 500);
  }
}

/** Reading is held: what was read before is told within a report or two. */
async function settled<S extends Progress>(show: () => Promise<S>): Promise<S> {
  let last = await show();
  return eventually(
    'progress to stand still',
    60_000,
    async () => {
      const now = await show();
      const same = sumOf(now, 'readBytes') === sumOf(last, 'readBytes');
      last = now;
      return same ? now : undefined;
    },
    1000,
  );
}

function sumOf({ tasks: [task] }: Progress, of: 'readBytes' | 'plannedBytes'): number {
  return task?.disks.reduce((sum, { counters }) => sum + counters[of], 0) ?? 0;
}
