/** Sessions whose storage is slow or does not answer, whose record is damaged, and on machines whose clock is set. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sessionName } from '../format/session-record';
import { DirectoryStore } from '../stores/directory-store';
import { makeFolder } from '../stores/make-folder';
import { sampleBlock } from '../testing/test-disk';
import { heldMemory } from '../testing/scale/process-figures';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';
import type { Lane, Session } from './session';

const block = 65_536;
const size = 4 * block;

/** A directory whose changes of session records can be held up, before or after they happened. */
class HeldStore extends DirectoryStore {
  private before: Promise<void> | undefined;
  private after: Promise<void> | undefined;
  /** Called when a change is held up. */
  onHeld: () => void = () => undefined;

  hold(when: 'before' | 'after'): () => void {
    let release: () => void = () => undefined;
    this[when] = new Promise((resolve) => (release = resolve));
    return () => {
      this[when] = undefined;
      release();
    };
  }

  override async swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    const isRecord = name.startsWith('sessions/');
    if (isRecord && this.before) this.onHeld();
    if (isRecord) await this.before;
    const swapped = await super.swap(name, expected, content);
    if (isRecord && this.after) this.onHeld();
    if (isRecord) await this.after;
    return swapped;
  }
}

/** Never, and the test runs out of its time. */
async function untilAborted(session: Session): Promise<void> {
  while (session.state !== 'aborted') await sleep(20);
}

describe('sessions', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let store: HeldStore;
  beforeEach(async () => {
    scratch = temporaryFolder();
    const root = path.join(scratch.folder, 'repository');
    await makeFolder(root);
    store = new HeldStore(root, { writer: 'test' });
  });
  afterEach(() => scratch[Symbol.dispose]());

  const lane = () => {
    const reasons: string[] = [];
    const closed: Lane = { close: (error) => reasons.push((error as { code?: string }).code ?? error.message) };
    return { closed, reasons };
  };
  const write = async (test: TestRepository, session: Session) => {
    const draft = await test.openDisk(session, 'disk', size);
    await test.send(draft, 0, sampleBlock(1, block), {});
    return draft;
  };

  test('a record that is being replaced here is not taken for one that another mover wrote', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const session = await test.openSession();
    const draft = await write(test, session);
    const held = new Promise<void>((resolve) => (store.onHeld = resolve));
    const release = store.hold('after');
    const committing = test.commitDisk(session, draft);
    await held;
    // The server asks for the session again, for instance because it was restarted; the new record is in the store, and its writer does not know yet.
    let opened: Session | undefined;
    const opening = test.openSession([], session.id).then((found) => (opened = found));
    await sleep(100);
    expect(opened ?? session).toBe(session);
    release();
    expect(await opening).toBe(session);
    await committing;
    expect(session.isElsewhere).toBe(false);
    await test.commit(session, [{ diskId: 'disk', sizeBytes: size }]);
  });

  test('one whose storage does not answer keeps no other from ending', async () => {
    let now = Date.now();
    await using hung = await TestRepository.open(scratch.folder, { store, sessions: { now: () => now } });
    await using other = await TestRepository.open(path.join(scratch.folder, 'other'));
    await hung.sessions.load(other.repository);
    const first = await hung.openSession();
    const request = { sessionId: randomUUID(), kind: 'backup' as const, pointIds: [], leaseDurationMs: 60_000 };
    const second = await hung.sessions.open(other.repository, request);
    const release = store.hold('before');
    try {
      now += 120_000;
      hung.sessions.start();
      await untilAborted(second);
      expect(first.state).toBe('open');
    } finally {
      release();
    }
    await untilAborted(first);
  });

  test('all are let go of at once when the mover stops, and nobody comes in meanwhile', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const sessions = await Promise.all([test.openSession(), test.openSession(), test.openSession()]);
    const lanes = sessions.map((session) => {
      const { closed, reasons } = lane();
      session.attach(closed);
      return reasons;
    });
    const draft = await write(test, sessions[0]);
    // The first one is in the middle of a step that does not end.
    const held = new Promise<void>((resolve) => (store.onHeld = resolve));
    const release = store.hold('before');
    const committing = test.commitDisk(sessions[0], draft);
    await held;
    const stopping = test.sessions.stop();
    expect(lanes).toEqual([['MOVER_STOPPING'], ['MOVER_STOPPING'], ['MOVER_STOPPING']]);
    const stopped = expect.objectContaining({ code: 'MOVER_STOPPING' }) as Error;
    for (const session of sessions) {
      expect(() => session.attach(lane().closed)).toThrow(stopped);
      await expect(session.openDisk({ ...draft.request, diskId: 'another' })).rejects.toThrow(stopped);
    }
    release();
    await Promise.all([stopping, committing]);
  });

  test('a clock that is set ends no session, and keeps none for ever', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const session = await test.openSession();
    const real = Date.now();
    for (const jumpMs of [3_600_000, -3_600_000]) {
      const clock = jest.spyOn(Date, 'now').mockImplementation(() => real + jumpMs);
      try {
        expect(session.isExpired).toBe(false);
        // What the host is told is by the clock as it is now.
        const leftMs = session.leaseExpiresAt.getTime() - Date.now();
        expect(leftMs).toBeGreaterThan(0);
        expect(leftMs).toBeLessThanOrEqual(60_000);
      } finally {
        clock.mockRestore();
      }
    }
  });

  test('a mover that slept past all leases waits for renewals before it ends anything', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const session = await test.openSession();
    test.sessions.start();
    const awake = performance.now.bind(performance);
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => awake() + 600_000);
    try {
      await sleep(2_500);
      expect(session.state).toBe('open');
      session.renew(60_000);
      expect(session.isExpired).toBe(false);
    } finally {
      clock.mockRestore();
    }
  });

  test('one whose record is damaged ends, instead of failing for ever', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const session = await test.openSession();
    await write(test, session);
    const { closed, reasons } = lane();
    session.attach(closed);
    const file = path.join(store.folder, sessionName(session.id));
    const bytes = fs.readFileSync(file);
    bytes[60] = (bytes[60] as number) ^ 1;
    fs.writeFileSync(file, bytes);
    await expect(session.abort('its lease ran out')).rejects.toMatchObject({ code: 'SESSION_ENDED' });
    expect(session.state).toBe('aborted');
    expect(new Set(reasons)).toEqual(new Set(['SESSION_ENDED']));
    await session.abort('once more');
  });

  test('those that have ended take little memory for as long as they are remembered', async () => {
    await using test = await TestRepository.open(scratch.folder, { store });
    const count = 30;
    const before = await heldMemory();
    for (let i = 0; i < count; i++) {
      const session = await test.openSession();
      // As much as Node.js shares out of one allocation, so that each record comes from another one.
      for (let used = 0; used < Buffer.poolSize; used += 1024) Buffer.from('x'.repeat(1024));
      await session.abort('enough');
    }
    expect((await heldMemory()) - before).toBeLessThan((count * Buffer.poolSize) / 3);
  });
});
