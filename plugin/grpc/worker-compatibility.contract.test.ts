import { systemClock } from '../operations/clock';
import { eventually } from '../testing/eventually';
import { quietLogger } from '../testing/quiet-logger';
import { RecordedWorker, knownReplies } from '../testing/recorded-worker';
import { secureServer } from '../testing/secure-server';
import { workersBesideServerOnly } from '../testing/beside-server-only';
import { ConnectedFleet } from '../workers/connected-fleet';
import { Dispatcher } from '../workers/dispatcher';
import { defaultFleetTiming } from '../workers/timing';
import { serveWorkers } from './worker-services';

const { logger } = quietLogger();

async function fixture() {
  const fleet = new ConnectedFleet(logger, { ...defaultFleetTiming, heartbeatMs: 100 });
  const dispatcher = new Dispatcher(fleet, workersBesideServerOnly, systemClock);
  const nobody = () => Promise.resolve(null);
  const certificates = { enrolWorker: async () => ({ certificate: null, workerId: '' }), renewWorkerCertificate: nobody };
  const at = await secureServer((server) =>
    serveWorkers(server, fleet, certificates, { isStopping: () => false, isRemoved: () => false }, { logger, domain: 'plugin' }),
  );
  const worker = new RecordedWorker(at.endpoint, await at.credentialsFor('worker', 'old'));
  worker.dial();
  worker.say('hello');
  await eventually('the worker', () => fleet.connected().length === 1);
  const beat = setInterval(() => worker.say('heartbeat'), 50);
  beat.unref();
  return {
    fleet,
    dispatcher,
    worker,
    [Symbol.dispose]: () => {
      clearInterval(beat);
      worker.close();
      fleet.stop();
      at[Symbol.dispose]();
    },
  };
}

type At = Awaited<ReturnType<typeof fixture>>;

/** Starts a task and finds its id in the bytes that came: 36 characters behind the two tags and lengths of StartTask. */
async function begin(at: At) {
  const { signal } = new AbortController();
  const placement = { platformId: 'p1', clusterId: 'c1' };
  const slot = await at.dispatcher.slot({ placement, signal, waiting: () => undefined });
  const seen: number[] = [];
  const progress = (report: { counters: { readBytes: number } }) => seen.push(report.counters.readBytes);
  const outcome = at.dispatcher.runIn(slot, { backupDisk: { diskId: 'd1' } }, { correlationId: 'c', signal, progress });
  await eventually('the task', () => at.worker.replyFields.includes(3));
  const bytes = at.worker.replies.find((reply) => (reply[0] ?? 0) >> 3 === 3)!;
  const taskId = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(bytes.toString('latin1'))![0];
  return { slot, outcome, seen, taskId };
}

describe('a worker of version 0.1.0', () => {
  it('runs a task of this plug-in, over a break of its stream', async () => {
    using at = await fixture();
    const { slot, outcome, seen, taskId } = await begin(at);
    at.worker.say('progress', taskId);
    await eventually('the progress', () => seen.length === 1);
    at.worker.hangUp();
    await eventually('the break', () => at.fleet.connected().length === 0);
    at.worker.dial();
    at.worker.say('helloAgain', taskId);
    await eventually('the worker again', () => at.fleet.connected().length === 1);
    at.worker.say('result', taskId);
    expect(await outcome).toEqual({
      counters: { plannedBytes: 4096, readBytes: 4096, transferredBytes: 2048, storedBytes: 1024, zeroBytes: 4096, deduplicatedBytes: 0 },
      imagePath: 'direct',
      imagePathReason: '',
    });
    expect(seen).toEqual([1024]);
    await eventually('the result to be let go', () => at.worker.replyFields.includes(6));
    slot.release();
    expect(at.fleet.connected()).toMatchObject([
      { workerId: 'old', version: '0.1.0', imageVersion: '', addresses: [], trust: undefined, usedSlots: 0 },
    ]);
  });

  it('is never sent what it does not know, and is drained and resumed nevertheless', async () => {
    using at = await fixture();
    const { signal } = new AbortController();
    await expect(at.fleet.selfTest('old', [], signal)).rejects.toMatchObject({ code: 'CAPABILITY_MISSING', meta: { needed: 'self-test' } });
    at.fleet.updateTrust('old', { trustBundlePem: 'pem', renewCertificate: true });
    at.fleet.drain('old');
    expect(at.fleet.connected()).toMatchObject([{ drained: true }]);
    expect(at.dispatcher.trySlot({ platformId: 'p1', clusterId: 'c1' })).toBeUndefined();
    at.fleet.resume('old');
    const { outcome, taskId } = await begin(at);
    at.worker.say('result', taskId);
    expect((await outcome).failure).toBeUndefined();
    await eventually('heartbeats', () => at.worker.replyFields.filter((field) => field === 2).length > 1);
    expect(at.worker.replyFields.filter((field) => !knownReplies.includes(field))).toEqual([]);
    // Version 0.1.0 could not be resumed, so it is not told to drain either.
    expect(at.worker.replyFields).not.toContain(5);
  });

  it('gets no disks attached', async () => {
    using at = await fixture();
    expect(at.dispatcher.trySlot({ platformId: 'p1', clusterId: 'c1', needsAttachment: { dataCenterId: 'dc1' } })).toBeUndefined();
  });
});
