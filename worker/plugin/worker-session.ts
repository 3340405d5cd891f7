/**
 * The worker's side of tidemark.worker.v1: it dials the plug-in, says what it can do and what it still runs, takes tasks and hands up progress and
 * results until they are stored. This folder owns the stream, enrolment, renewal and what goes up beside tasks; what a task or a self-test does is
 * not its business. An older plug-in takes what it does not know for empty messages and ignores them.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import { within } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { durationFromWire, timestampFromWire, timestampToWire } from '../../common/rpc/bytes';
import type { WireTimestamp } from '../../common/rpc/bytes';
import { pause } from '../../common/rpc/call';
import type { DuplexCall, RpcClient } from '../../common/rpc/call';
import type { TrustState } from '../../proto/gen/tidemark/common/v1/TrustState';
import type { ConnectRequest } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse__Output } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { RunSelfTest__Output } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { SelfTestReport } from '../../proto/gen/tidemark/worker/v1/SelfTestReport';
import type { TrustUpdate__Output } from '../../proto/gen/tidemark/worker/v1/TrustUpdate';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';
import { WorkerErrors } from '../errors/worker-errors';
import type { TaskRegistry } from '../tasks/task-registry';
import type { LogBuffer } from './log-lines';

type Stream = DuplexCall<ConnectRequest, ConnectResponse__Output>;

/** Until Welcome has told the heartbeat interval. */
const firstSilenceMs = 15_000;
/** The bridge's own limit; the agreed one is watched here and is shorter. */
const streamIdleMs = 300_000;
const progressEveryMs = 1_000;
/**
 * Silence of so many heartbeat intervals means lost. Counted and not measured: when this process was stopped, or got no processor, what the
 * plug-in sent meanwhile is still to be read, and such a pause counts for one.
 */
const silentIntervals = 3;
const backOffMs = [200, 500, 1_000, 2_000, 5_000];

/** What goes over the stream beside tasks. */
export interface SessionParts {
  /** Asked anew for each stream. */
  hello(): Omit<Hello, 'taskIds' | 'trust'>;
  trust(): TrustState;
  updateTrust(update: TrustUpdate__Output): void;
  readonly selfTests: { start(request: RunSelfTest__Output): void; onReport: (report: SelfTestReport) => void };
  /** Only of workers that keep no log of their own. */
  readonly logLines: LogBuffer | undefined;
  /** Why the plug-in, which cannot be reached, may never be: a certificate that one side refuses. Undefined when that is not it. */
  diagnose(): Promise<TidemarkError | undefined>;
  /** The plug-in will not have this worker any more, or its identity expired; told again with each try. */
  refused(code: string): void;
}

export class WorkerSession implements Service {
  readonly name = 'plug-in session';
  private readonly aborter = new AbortController();
  private stream: Stream | undefined;
  private draining = false;
  private loop: Promise<void> | undefined;
  /** Counts intervals without a message, over reconnections: after some the plug-in has taken the tasks back. */
  private silence: NodeJS.Timeout | undefined;
  private unheard = 0;
  /** Ends the stream of now, once it is up. */
  private giveUp: () => void = () => undefined;

  constructor(
    private readonly client: RpcClient<WorkerServiceDefinition>,
    private readonly tasks: TaskRegistry,
    private readonly parts: SessionParts,
    private readonly logger: Logger,
    private readonly now: () => Date = () => new Date(),
  ) {}

  async start(): Promise<void> {
    this.tasks.onResult = (result) => {
      this.send({ result });
      if (this.draining && this.tasks.runningCount === 0) this.send({ drained: {} });
    };
    this.parts.selfTests.onReport = (selfTestReport) => this.send({ selfTestReport });
    this.loop = this.keepConnected();
  }

  async stop(): Promise<void> {
    clearInterval(this.silence);
    this.tasks.cancelAll();
    const until = performance.now() + 3_000;
    while (this.tasks.runningCount > 0 && performance.now() < until) await pause(50);
    this.sendLogLines();
    this.aborter.abort();
    this.stream?.cancel();
    await within(this.loop ?? Promise.resolve(), 5_000, 'ending the plug-in session').catch(() => undefined);
    this.client.close();
  }

  /** Tells the plug-in what it would hear with the next heartbeat. */
  heartbeat(): void {
    this.send({
      heartbeat: {
        residentMemoryBytes: String(process.memoryUsage.rss()),
        sentAt: timestampToWire(this.now()),
        trust: this.parts.trust(),
      },
    });
  }

  private async keepConnected(): Promise<void> {
    const { signal } = this.aborter;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await this.once(() => (attempt = 0));
      } catch (error) {
        if (signal.aborted) return;
        const final = this.finalOf(error);
        const refusal = final ?? (await this.notAccepted(error, attempt));
        if (refusal) this.logger.error('the plug-in refuses this worker', { code: refusal.code, error: refusal });
        else this.logger.warn('connection to the plug-in ended', { error });
        if (final) {
          // Nothing will change by itself; a process that is to stay asks slowly, so that a supervisor need not.
          this.tasks.cancelAll();
          attempt = backOffMs.length;
          this.parts.refused(final.code);
        }
      }
      this.stream = undefined;
      await pause(backOffMs[Math.min(attempt, backOffMs.length - 1)] as number, signal).catch(() => undefined);
    }
  }

  /** The error after which no try will do better; undefined when waiting may help. */
  private finalOf(error: unknown): TidemarkError | undefined {
    if (hasCode(error, 'IDENTITY_REVOKED', 'CAPABILITY_MISSING')) return error;
    // With a certificate that is too old no stream comes about, and none to renew it either.
    const expiresAt = timestampFromWire(this.parts.trust().expiresAt as WireTimestamp)?.getTime() ?? Infinity;
    return expiresAt < this.now().getTime() ? WorkerErrors.IDENTITY_EXPIRED({}, { cause: error }) : undefined;
  }

  /** Looked for now and then: a plug-in that is just going down looks like one that refuses our certificate, so the worker goes on asking. */
  private async notAccepted(error: unknown, attempt: number): Promise<TidemarkError | undefined> {
    if (!hasCode(error, 'PEER_UNAVAILABLE') || attempt % 10 !== 0) return undefined;
    return this.parts.diagnose().catch(() => undefined);
  }

  /** One stream from Hello to its end. */
  private async once(connected: () => void): Promise<void> {
    const stopped = new AbortController();
    const signal = AbortSignal.any([this.aborter.signal, stopped.signal]);
    const stream = this.client.duplex('Connect', { idleTimeoutMs: streamIdleMs, signal });
    let beat: NodeJS.Timeout | undefined;
    let report: NodeJS.Timeout | undefined;
    const welcomed = setTimeout(() => stopped.abort(), firstSilenceMs);
    try {
      await stream.send({ hello: { ...this.parts.hello(), trust: this.parts.trust(), taskIds: this.tasks.taskIds } });
      for await (const message of stream.replies) {
        if (message.welcome) {
          const intervalMs = Math.max(200, durationFromWire(message.welcome.heartbeatInterval) ?? 5_000);
          this.stream = stream;
          // The plug-in says so again when it still wants it.
          this.draining = false;
          connected();
          this.logger.info('connected to the plug-in', { heartbeatIntervalMs: intervalMs });
          for (const result of this.tasks.unstoredResults) this.send({ result });
          beat = setInterval(() => this.heartbeat(), intervalMs);
          report = setInterval(() => this.reportProgress(), progressEveryMs);
          clearTimeout(welcomed);
          this.giveUp = () => stopped.abort();
          clearInterval(this.silence);
          this.silence = setInterval(() => this.notHeard(), intervalMs);
        } else {
          this.take(message);
        }
        this.unheard = 0;
      }
      throw CommonErrors.PEER_UNAVAILABLE({ peer: this.client.endpoint });
    } finally {
      clearInterval(beat);
      clearInterval(report);
      clearTimeout(welcomed);
      this.giveUp = () => undefined;
      stream.cancel();
    }
  }

  private notHeard(): void {
    this.unheard += 1;
    if (this.unheard <= silentIntervals) return;
    this.giveUp();
    this.abandon();
  }

  /** Nobody waits for the tasks any more; others may do them by now. */
  private abandon(): void {
    if (this.tasks.runningCount === 0) return;
    this.logger.warn('the plug-in is lost; its tasks are cancelled', { tasks: this.tasks.runningCount });
    this.tasks.cancelAll();
  }

  private take(message: ConnectResponse__Output): void {
    if (message.startTask) {
      this.tasks.start(message.startTask, !this.draining);
    } else if (message.cancelTask) {
      this.tasks.cancel(message.cancelTask.taskId);
    } else if (message.changeDataPath) {
      this.tasks.changeDataPath(message.changeDataPath.taskId, message.changeDataPath.dataPath);
    } else if (message.resultStored) {
      this.tasks.forget(message.resultStored.taskId);
    } else if (message.drain) {
      this.logger.info('draining', { runningTasks: this.tasks.runningCount });
      this.draining = true;
      if (this.tasks.runningCount === 0) this.send({ drained: {} });
    } else if (message.resume) {
      if (this.draining) this.logger.info('taking tasks again');
      this.draining = false;
    } else if (message.runSelfTest) {
      this.parts.selfTests.start(message.runSelfTest);
    } else if (message.trustUpdate) {
      this.parts.updateTrust(message.trustUpdate);
    }
  }

  private reportProgress(): void {
    for (const progress of this.tasks.progress()) this.send({ progress });
    this.sendLogLines();
  }

  private sendLogLines(): void {
    const { logLines } = this.parts;
    if (!this.stream || !logLines) return;
    const lines = logLines.take();
    if (lines) this.stream.send({ logLines: lines }).catch(() => logLines.giveBack(lines));
  }

  /** Sends if there is a stream; what must not get lost is sent again after the next Hello. */
  private send(message: ConnectRequest): void {
    this.stream?.send(message).catch((error: unknown) => {
      this.logger.debug('a message to the plug-in was not sent', { error });
    });
  }
}
