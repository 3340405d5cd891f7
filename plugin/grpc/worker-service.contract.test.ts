import { RpcClient } from '../../common/rpc/call';
import { CommonErrors } from '../../common/errors/common-errors';
import { failureMessage } from '../../common/rpc/failure-message';
import { loadService } from '../../proto/loader';
import type { WorkerEnrolmentServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerEnrolmentService';
import { systemClock } from '../operations/clock';
import type { Clock } from '../operations/clock';
import { eventually } from '../testing/eventually';
import { ManualClock } from '../testing/manual-clock';
import { quietLogger } from '../testing/quiet-logger';
import { ScriptedWorker } from '../testing/scripted-worker';
import { secureServer } from '../testing/secure-server';
import { workersBesideServerOnly } from '../testing/beside-server-only';
import { ConnectedFleet } from '../workers/connected-fleet';
import { Dispatcher, defaultDispatcherLimits } from '../workers/dispatcher';
import type { TaskOutcome } from '../workers/tasks';
import { defaultFleetTiming } from '../workers/timing';
import type { FleetTiming } from '../workers/timing';
import { serveWorkerEnrolment, serveWorkers } from './worker-services';
import type { WorkerCertificates } from './worker-services';

const { logger, lines } = quietLogger();
const options = { logger, domain: 'plugin' };
const placement = { platformId: 'p1', clusterId: 'c1' };
const hello = {
  process: {
    bootId: 'boot-1',
    protocols: ['tidemark.worker.v1'],
    capabilities: ['self-test', 'trust-update', 'resume', 'log-lines'],
    hostName: 'w',
    version: '1',
  },
  taskSlots: 2,
  taskIds: [] as string[],
};
const task = { backupDisk: { diskId: 'd1' } };

/** Nothing is lost by itself within a test, however slow the machine is, unless its `timing` says so. */
async function fixture(
  certificates: Partial<WorkerCertificates> = {},
  timing: Partial<FleetTiming> = {},
  { noWorkerMs = 60_000, clock = systemClock }: { noWorkerMs?: number; clock?: Clock } = {},
) {
  const allTiming = { ...defaultFleetTiming, heartbeatMs: 5_000, reconnectMs: 60_000, cancelMs: 60_000, ...timing };
  const fleet = new ConnectedFleet(logger, allTiming, clock);
  const dispatcher = new Dispatcher(fleet, workersBesideServerOnly, systemClock, {
    ...defaultDispatcherLimits,
    maxWaiting: 3,
    noWorkerMs,
  });
  let stopping = false;
  const removed = new Set<string>();
  const at = await secureServer((server) => {
    const all: WorkerCertificates = {
      enrolWorker: () => Promise.reject(CommonErrors.PEER_UNAVAILABLE({ peer: 'host' })),
      renewWorkerCertificate: () => Promise.reject(CommonErrors.PEER_UNAVAILABLE({ peer: 'host' })),
      ...certificates,
    };
    const admission = { isStopping: () => stopping, isRemoved: (workerId: string) => removed.has(workerId) };
    serveWorkers(server, fleet, all, admission, options);
  });
  const workers: ScriptedWorker[] = [];
  return {
    fleet,
    dispatcher,
    endpoint: at.endpoint,
    credentialsFor: at.credentialsFor,
    stop: () => {
      stopping = true;
    },
    remove: (workerId: string) => removed.add(workerId),
    /** `beats` while that is true. */
    async worker(id: string, more: object = {}, beats = () => true): Promise<ScriptedWorker> {
      const worker = new ScriptedWorker(at.endpoint, await at.credentialsFor('worker', id));
      workers.push(worker);
      worker.connect({ ...hello, ...more });
      const timer = setInterval(() => {
        if (worker.ended !== undefined || !beats()) return clearInterval(timer);
        worker.send({ heartbeat: { residentMemoryBytes: '7' } });
      }, 20);
      timer.unref();
      await eventually(
        `${id} to be listed or refused`,
        () => worker.ended !== undefined || fleet.list().some((w) => w.workerId === id && w.state !== 'lost'),
      );
      return worker;
    },
    async run(
      signal = new AbortController().signal,
      progress: (n: number) => void = () => undefined,
    ): Promise<{ outcome: Promise<TaskOutcome>; workerId: string }> {
      const slot = await dispatcher.slot({ placement, signal, waiting: () => undefined });
      const outcome = dispatcher
        .runIn(slot, task, { correlationId: 'corr', signal, progress: (report) => progress(report.counters.readBytes) })
        .finally(() => slot.release());
      return { outcome, workerId: slot.workerId };
    },
    [Symbol.dispose]: () => {
      for (const worker of workers) worker.close();
      fleet.stop();
      at[Symbol.dispose]();
    },
  };
}

describe('WorkerService', () => {
  it('refuses a worker that was removed, whatever its certificate says', async () => {
    using at = await fixture();
    at.remove('gone');
    const gone = await at.worker('gone');
    expect(gone.ended).toMatchObject({ code: 'IDENTITY_REVOKED' });
    expect(at.fleet.list()).toEqual([]);
  });

  it('runs a task with progress and result, and lets the worker forget it', async () => {
    using at = await fixture({}, { heartbeatMs: 1_000 });
    const worker = await at.worker('w1');
    const seen: number[] = [];
    const { outcome } = await at.run(undefined, (n) => seen.push(n));
    await eventually('the task', () => worker.tasks.length === 1);
    const started = worker.tasks[0]!;
    expect(started).toMatchObject({ correlationId: 'corr', backupDisk: { diskId: 'd1' } });
    expect(at.fleet.list()).toMatchObject([{ workerId: 'w1', state: 'connected', runningTasks: 1, taskSlots: 2 }]);
    worker.send({ progress: { taskId: started.taskId, counters: { readBytes: '12' }, totalBytes: '99' } });
    worker.finish(started.taskId, {
      counters: { readBytes: '99', storedBytes: '5' },
      imagePath: 'IMAGE_PATH_PROXY',
      imagePathReason: 'refused',
    });
    expect(await outcome).toMatchObject({ counters: { readBytes: 99, storedBytes: 5 }, imagePath: 'proxy', imagePathReason: 'refused' });
    expect(seen).toEqual([12]);
    await eventually('the result to be let go', () => worker.stored.includes(started.taskId));
    await eventually('heartbeats down', () => worker.heartbeats.length > 0);
    expect(Math.abs((worker.heartbeats[0]?.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  it('refuses a stream that does not begin with Hello, another protocol, and other roles', async () => {
    using at = await fixture();
    const old = await at.worker('w1', { process: { ...hello.process, protocols: ['tidemark.worker.v0'] } });
    expect(old.ended).toMatchObject({ code: 'CAPABILITY_MISSING' });
    const rude = new ScriptedWorker(at.endpoint, await at.credentialsFor('worker', 'w2'));
    rude.connect(null as never);
    rude.send({ heartbeat: {} });
    await eventually('the refusal', () => rude.ended !== undefined);
    expect(rude.ended).toMatchObject({ code: 'WORKER_PROTOCOL_BROKEN' });
    rude.close();
    const host = new ScriptedWorker(at.endpoint, await at.credentialsFor('host', 'h'));
    host.connect(hello);
    await eventually('the refusal', () => host.ended !== undefined);
    expect(host.ended).toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
    host.close();
    at.stop();
    const late = await at.worker('w3');
    expect(late.ended).toMatchObject({ code: 'PLUGIN_STOPPING' });
  });

  it('keeps a task over a short break, sends it again if it never arrived, and cancels strangers', async () => {
    using at = await fixture();
    const worker = await at.worker('w1');
    const first = await at.run();
    await eventually('the task', () => worker.tasks.length === 1);
    const taskId = worker.tasks[0]!.taskId;
    worker.breakStream();
    await eventually('the break', () => at.fleet.list()[0]?.state === 'lost');
    const back = await at.worker('w1', { taskIds: [taskId, 'stranger'] });
    await eventually('the stranger to be cancelled', () => back.cancelled.includes('stranger'));
    expect(back.cancelled).not.toContain(taskId);
    expect(back.tasks).toEqual([]);
    back.breakStream();
    await eventually('the break', () => at.fleet.list()[0]?.state === 'lost');
    const again = await at.worker('w1', { taskIds: [] });
    await eventually('the task to come again', () => again.tasks.some((t) => t.taskId === taskId));
    again.finish(taskId);
    expect((await first.outcome).failure).toBeUndefined();
  });

  describe('a task that comes in a short break', () => {
    async function brokenOff(timing: Partial<FleetTiming>) {
      const at = await fixture({}, timing);
      const { signal } = new AbortController();
      const worker = await at.worker('w1');
      const slot = await at.dispatcher.slot({ placement, signal, waiting: () => undefined });
      worker.breakStream();
      await eventually('the break', () => at.fleet.list()[0]?.state === 'lost');
      const run = () => at.dispatcher.runIn(slot, task, { correlationId: 'corr', signal, progress: () => undefined });
      return { worker: () => at.worker('w1'), run, [Symbol.dispose]: () => at[Symbol.dispose]() };
    }

    it('begins when the worker is back', async () => {
      using at = await brokenOff({});
      const outcome = at.run();
      const back = await at.worker();
      await eventually('the task', () => back.tasks.length === 1);
      back.finish(back.tasks[0]!.taskId);
      expect((await outcome).failure).toBeUndefined();
    });

    it('is lost when the worker does not come back', async () => {
      using at = await brokenOff({ reconnectMs: 2_000 });
      expect((await at.run()).failure).toMatchObject({ code: 'WORKER_LOST' });
      expect((await at.run()).failure).toMatchObject({ code: 'WORKER_LOST' });
    });
  });

  it.each([
    ['its stream is gone and it does not come back', (w: ScriptedWorker) => w.breakStream()],
    ['it closes for good', (w: ScriptedWorker) => w.close()],
  ])('loses the task when %s', async (_name, end) => {
    using at = await fixture({}, { reconnectMs: 300 });
    const worker = await at.worker('w1');
    const { outcome } = await at.run();
    await eventually('the task', () => worker.tasks.length === 1);
    end(worker);
    expect((await outcome).failure).toMatchObject({ code: 'WORKER_LOST', retry: 'same-request' });
  });

  it('loses the task when the worker is silent for three heartbeats', async () => {
    using at = await fixture({}, { heartbeatMs: 1_000 });
    let beats = true;
    const silent = await at.worker('w1', {}, () => beats);
    const { outcome } = await at.run();
    await eventually('the task', () => silent.tasks.length === 1);
    // Its stream stands all the time.
    beats = false;
    expect((await outcome).failure).toMatchObject({ code: 'WORKER_LOST' });
  });

  it('loses the task when the worker restarted', async () => {
    using at = await fixture();
    const worker = await at.worker('w2');
    const second = await at.run();
    await eventually('the task', () => worker.tasks.length === 1);
    worker.breakStream();
    await eventually('the break', () => at.fleet.list().find((w) => w.workerId === 'w2')?.state === 'lost');
    await at.worker('w2', { process: { ...hello.process, bootId: 'boot-2' } });
    expect((await second.outcome).failure).toMatchObject({ code: 'WORKER_LOST' });
  });

  it('cancels a task at the worker, and gives up on one that does not answer', async () => {
    using at = await fixture({}, { cancelMs: 500 });
    const worker = await at.worker('w1');
    const stop = new AbortController();
    const { outcome } = await at.run(stop.signal);
    await eventually('the task', () => worker.tasks.length === 1);
    stop.abort();
    expect((await outcome).failure).toMatchObject({ code: 'CANCELLED' });
    await eventually('the cancel', () => worker.cancelled.length === 1);
    worker.answersCancel = false;
    const stop2 = new AbortController();
    const second = await at.run(stop2.signal);
    await eventually('the task', () => worker.tasks.length === 2);
    stop2.abort();
    expect((await second.outcome).failure).toMatchObject({ code: 'CANCELLED' });
  });

  it('waits for a slot with a reason, in order, and not for ever without workers', async () => {
    using at = await fixture({}, {}, { noWorkerMs: 300 });
    const signal = new AbortController().signal;
    const reasons: string[] = [];
    const nobody = at.dispatcher.slot({ placement, signal, waiting: (r) => reasons.push(r) });
    await expect(nobody).rejects.toMatchObject({ code: 'WORKER_NONE' });
    expect(reasons).toEqual(['worker-none']);
    await at.worker('w1', { taskSlots: 1 });
    const slot = await at.dispatcher.slot({ placement, signal, waiting: () => undefined });
    expect(at.dispatcher.trySlot(placement)).toBeUndefined();
    const order: string[] = [];
    const waiting = ['a', 'b'].map((name) =>
      at.dispatcher.slot({ placement, signal, waiting: (r) => reasons.push(`${name} ${r}`) }).then((s) => {
        order.push(name);
        s.release();
      }),
    );
    const gone = new AbortController();
    const third = at.dispatcher.slot({ placement, signal: gone.signal, waiting: () => undefined });
    await expect(at.dispatcher.slot({ placement, signal, waiting: () => undefined })).rejects.toMatchObject({ code: 'WORKER_QUEUE_FULL' });
    gone.abort();
    await expect(third).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(reasons.slice(1)).toEqual(['a worker-slots', 'b worker-slots']);
    slot.release();
    slot.release();
    await Promise.all(waiting);
    expect(order).toEqual(['a', 'b']);
    expect(at.dispatcher.trySlot(placement)).toBeDefined();
  });

  it('prefers the cluster, then the platform, then a worker beside the server; files need the last', async () => {
    using at = await fixture();
    await at.worker('server');
    await at.worker('other', { platformId: 'p1', clusterId: 'c2' });
    await at.worker('near', { platformId: 'p1', clusterId: 'c1', taskSlots: 1 });
    await at.worker('foreign', { platformId: 'p2', clusterId: 'c9' });
    const take = (p: typeof placement) => at.dispatcher.trySlot(p)?.workerId;
    expect([take(placement), take(placement), take(placement), take(placement), take(placement), take(placement)]).toEqual([
      'near',
      'other',
      'other',
      'server',
      'server',
      undefined,
    ]);
    expect(take({ platformId: '', clusterId: '' })).toBeUndefined();
  });

  it('drains a worker, also one that comes back restarted, until it is resumed', async () => {
    using at = await fixture();
    const worker = await at.worker('w1');
    for (const act of ['drain', 'resume'] as const) expect(() => at.fleet[act]('nobody')).toThrow(/no worker nobody/);
    at.fleet.drain('w1');
    at.fleet.drain('w1');
    await eventually('the drain', () => worker.drains === 1);
    expect(at.dispatcher.trySlot(placement)).toBeUndefined();
    expect(at.fleet.list()[0]?.state).toBe('drained');
    worker.breakStream();
    await eventually('the break', () => at.fleet.list()[0]?.state === 'lost');
    const back = await at.worker('w1', { process: { ...hello.process, bootId: 'boot-2' } });
    await eventually('the drain again', () => back.drains === 1);
    expect(at.fleet.list()).toMatchObject([{ workerId: 'w1', hostName: 'w', version: '1', state: 'drained', clusterId: '' }]);
    at.fleet.resume('w1');
    at.fleet.resume('w1');
    await eventually('the resume', () => back.resumes === 1);
    expect(at.dispatcher.trySlot(placement)).toBeDefined();
  });

  it('lets an operation go on in the slot that it has while the worker drains, and tells the worker after that', async () => {
    using at = await fixture();
    const worker = await at.worker('w1');
    const signal = new AbortController().signal;
    const slot = await at.dispatcher.slot({ placement, signal, waiting: () => undefined });
    at.fleet.drain('w1');
    const outcome = at.dispatcher.runIn(slot, task, { correlationId: 'corr', signal, progress: () => undefined });
    await eventually('the task', () => worker.tasks.length === 1);
    expect(at.fleet.connected()[0]).toMatchObject({ drained: false, idleMs: undefined, usedSlots: 1 });
    expect(at.fleet.list()[0]?.state).toBe('draining');
    worker.finish(worker.tasks[0]!.taskId);
    expect((await outcome).failure).toBeUndefined();
    expect(worker.drains).toBe(0);
    slot.release();
    await eventually('the drain', () => worker.drains === 1);
    expect(at.fleet.connected()[0]).toMatchObject({ drained: true, idleMs: expect.any(Number) as number, usedSlots: 0 });
  });

  it('gives a task up that the worker tells nothing of while it lives, and takes that worker last', async () => {
    const clock = new ManualClock();
    using at = await fixture({}, { stuckMs: 20_000 }, { clock });
    const worker = await at.worker('w1');
    worker.answersCancel = false;
    const heard: number[] = [];
    const told = await at.run(undefined, (readBytes) => heard.push(readBytes));
    await eventually('the first task', () => worker.tasks.length === 1);
    const silent = await at.run();
    await eventually('the tasks', () => worker.tasks.length === 2);
    await clock.advance(15_000);
    worker.send({ progress: { taskId: worker.tasks[0]!.taskId, counters: { readBytes: '9' }, totalBytes: '9' } });
    await eventually('what it tells of the first one', () => heard.length === 1);
    await clock.advance(15_000);
    expect((await silent.outcome).failure).toMatchObject({ code: 'WORKER_LOST' });
    expect(at.fleet.connected()).toMatchObject([{ workerId: 'w1', stuck: true }]);
    await eventually('the cancel', () => worker.cancelled.length === 1);
    expect(worker.cancelled).toEqual([worker.tasks[1]!.taskId]);
    worker.finish(worker.tasks[0]!.taskId);
    expect((await told.outcome).failure).toBeUndefined();
    await at.worker('w2');
    expect([1, 2, 3, 4].map(() => at.dispatcher.trySlot(placement)?.workerId)).toEqual(['w2', 'w2', 'w1', 'w1']);
  });

  it('abandons a worker: its tasks are lost at once, and a worker that dials again is told to stop them', async () => {
    using at = await fixture({}, { reconnectMs: 60_000 });
    const worker = await at.worker('w1');
    const { outcome } = await at.run();
    await eventually('the task', () => worker.tasks.length === 1);
    at.fleet.abandon('nobody');
    at.fleet.abandon('w1');
    expect((await outcome).failure).toMatchObject({ code: 'WORKER_LOST' });
    await eventually('the end of its stream', () => worker.ended !== undefined);
    const back = await at.worker('w1', { taskIds: [worker.tasks[0]!.taskId] });
    await eventually('the task to be stopped', () => back.cancelled.includes(worker.tasks[0]!.taskId));
    at.fleet.forget('w1');
    expect(at.fleet.list()).toEqual([]);
  });

  it('runs a self-test, over a break too, and says when it cannot', async () => {
    using at = await fixture();
    const worker = await at.worker('w1');
    const targets = [{ check: 'SELF_TEST_CHECK_HOST' as const, endpoint: 'host1:54322', name: 'host1', caPem: 'ca' }];
    const { signal } = new AbortController();
    const first = at.fleet.selfTest('w1', targets, signal);
    await eventually('the test', () => worker.tests.length === 1);
    expect(worker.tests[0]).toMatchObject({ targets, testId: expect.any(String) as string });
    expect(Math.abs(Number(worker.tests[0]!.sentAt!.seconds) * 1000 - Date.now())).toBeLessThan(60_000);
    worker.breakStream();
    await eventually('the break', () => at.fleet.list()[0]?.state === 'lost');
    const back = await at.worker('w1');
    await eventually('the test again', () => back.tests.length === 1);
    const { testId } = back.tests[0]!;
    expect(testId).toBe(worker.tests[0]!.testId);
    const cells = [{ check: 'SELF_TEST_CHECK_HOST' as const, verdict: 'SELF_TEST_VERDICT_FAILED' as const, advice: 'open 54322' }];
    back.send({ selfTestReport: { testId: 'another', result: {} } });
    back.send({ selfTestReport: { testId, result: { verdict: 'SELF_TEST_VERDICT_FAILED', cells } } });
    expect(await first).toMatchObject({ verdict: 'SELF_TEST_VERDICT_FAILED', cells: [{ advice: 'open 54322' }] });

    using hasty = await fixture({}, { selfTestMs: 100 });
    await hasty.worker('w1');
    await expect(hasty.fleet.selfTest('w1', targets, signal)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await expect(at.fleet.selfTest('w1', targets, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
    const stop = new AbortController();
    const stopped = at.fleet.selfTest('w1', targets, stop.signal);
    stop.abort();
    await expect(stopped).rejects.toMatchObject({ code: 'CANCELLED' });
    const cut = at.fleet.selfTest('w1', targets, signal);
    at.fleet.abandon('w1');
    await expect(cut).rejects.toMatchObject({ code: 'WORKER_LOST' });
    await expect(at.fleet.selfTest('nobody', targets, signal)).rejects.toMatchObject({ code: 'WORKER_LOST' });
  });

  it('tells what its workers are and trust, and passes new trust on', async () => {
    using at = await fixture();
    const trust = (issuerFingerprint: string) => ({ trustedCaFingerprints: ['a'], issuerFingerprint, serialNumber: '7' });
    const worker = await at.worker('w1', { imageVersion: '0.2.0', addresses: ['10.0.0.9', 'fd00::9'], trust: trust('a') });
    expect(at.fleet.connected()).toMatchObject([
      {
        workerId: 'w1',
        version: '1',
        imageVersion: '0.2.0',
        addresses: ['10.0.0.9', 'fd00::9'],
        capabilities: hello.process.capabilities,
        runningTasks: 0,
        usedSlots: 0,
        drained: false,
        stuck: false,
        trust: { issuerFingerprint: 'a' },
      },
    ]);
    at.fleet.updateTrust('w1', { trustBundlePem: 'two CAs', renewCertificate: true });
    at.fleet.updateTrust('nobody', { trustBundlePem: 'two CAs', renewCertificate: true });
    await eventually('the trust', () => worker.trust.length === 1);
    expect(worker.trust).toMatchObject([{ trustBundlePem: 'two CAs', renewCertificate: true }]);
    worker.send({ heartbeat: { trust: trust('b') } });
    await eventually('the new trust', () => at.fleet.connected()[0]?.trust?.issuerFingerprint === 'b');
  });

  it('keeps what a worker writes in its own log, with its name and within bounds', async () => {
    using at = await fixture({}, { heartbeatMs: 1_000 });
    const worker = await at.worker('w1');
    lines.length = 0;
    const line = { level: 'error', message: 'disk task failed', fieldsJson: '{"diskId":"d1","password":"planted"}' };
    const odd = { level: 'shout', message: 'x'.repeat(9000), fieldsJson: '{' };
    worker.send({ logLines: { lines: [{ ...line, occurredAt: { seconds: '1700000000', nanos: 0 } }, odd], dropped: '3' } });
    worker.send({ logLines: { lines: Array.from({ length: 400 }, () => line), dropped: '0' } });
    await eventually('the lines', () => lines.filter(({ text }) => text === 'a worker wrote').length >= 300);
    const [first, second] = lines.filter(({ text }) => text === 'a worker wrote');
    expect(first).toMatchObject({
      level: 'error',
      fields: { workerId: 'w1', writtenAt: '2023-11-14T22:13:20.000Z', written: 'disk task failed', writtenFields: { diskId: 'd1' } },
    });
    expect(second).toMatchObject({ level: 'warn', fields: { written: 'x'.repeat(2000), writtenFields: { unreadable: 1 } } });
    await eventually('another heartbeat', () => worker.heartbeats.length > 2);
    // A minute may turn in the middle of the test.
    expect(lines.filter(({ text }) => text === 'a worker wrote').length).toBeLessThanOrEqual(402);
    expect(JSON.stringify(lines)).not.toContain('planted');
  });

  it('passes certificates on to the host for the calling worker only', async () => {
    using at = await fixture({
      renewWorkerCertificate: async (workerId, pem) => ({ certificateChainPem: `${workerId} ${pem}`, trustBundlePem: 't' }),
    });
    const worker = await at.worker('w1');
    expect(await worker.renew('csr')).toEqual({ certificate: { certificateChainPem: 'w1 csr', trustBundlePem: 't' } });
    using cut = await fixture();
    const alone = await cut.worker('w1');
    await expect(alone.renew('csr')).rejects.toMatchObject({ code: 'HOST_UNREACHABLE', retry: 'same-request' });
  });

  it('carries a typed failure of the worker', async () => {
    using at = await fixture();
    const worker = await at.worker('w1');
    const { outcome } = await at.run();
    await eventually('the task', () => worker.tasks.length === 1);
    worker.finish(worker.tasks[0]!.taskId, { failure: failureMessage(CommonErrors.PEER_UNAVAILABLE({ peer: 'mover' })) });
    expect((await outcome).failure).toMatchObject({
      code: 'PEER_UNAVAILABLE',
      kind: 'operational',
      retry: 'same-request',
      meta: { peer: 'mover' },
    });
  });
});

describe('WorkerEnrolmentService', () => {
  const application = { token: 'tmk1.secret.ca', certificateRequestPem: 'csr', addresses: ['worker'] };

  async function enrolment(certificates: Partial<WorkerCertificates>) {
    const refuse = () => Promise.reject(CommonErrors.PEER_UNAVAILABLE({ peer: 'host' }));
    const refusals: string[] = [];
    const at = await secureServer((server) =>
      serveWorkerEnrolment(server, { enrolWorker: refuse, renewWorkerCertificate: refuse, ...certificates }, options, (token) =>
        refusals.push(token),
      ),
    );
    const { service } = loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerEnrolmentService');
    const client = new RpcClient<WorkerEnrolmentServiceDefinition>(service, at.endpoint, await at.credentialsFor('worker', 'w'));
    return {
      client,
      refusals,
      [Symbol.dispose]: () => {
        client.close();
        at[Symbol.dispose]();
      },
    };
  }

  it('passes the application on to the host and its answer back', async () => {
    using at = await enrolment({
      enrolWorker: async (given) => ({
        certificate: { certificateChainPem: `for ${given.certificateRequestPem}`, trustBundlePem: given.token },
        workerId: 'w7',
      }),
    });
    await expect(at.client.call('Enrol', { application }, { deadlineMs: 120_000 })).resolves.toEqual({
      certificate: { certificateChainPem: 'for csr', trustBundlePem: 'tmk1.secret.ca' },
      workerId: 'w7',
    });
    await expect(at.client.call('Enrol', {}, { deadlineMs: 120_000 })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('hands on refusals of the host, and says when the host is away', async () => {
    using refused = await enrolment({ enrolWorker: () => Promise.reject(CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'used' })) });
    await expect(refused.client.call('Enrol', { application }, { deadlineMs: 120_000 })).rejects.toMatchObject({
      code: 'ENROLMENT_TOKEN_INVALID',
      status: 'UNAUTHENTICATED',
    });
    // Whoever waits for this worker can start it with another one.
    expect(refused.refusals).toEqual([application.token]);
    using away = await enrolment({});
    await expect(away.client.call('Enrol', { application }, { deadlineMs: 120_000 })).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      status: 'UNAVAILABLE',
      retry: 'same-request',
    });
    expect(away.refusals).toEqual([]);
  });
});
