/** The plug-in's side of tidemark.worker.v1, as far as tests and benchmarks need it: one worker, tasks handed out one by one. */
import { randomUUID } from 'node:crypto';
import { Server } from '@grpc/grpc-js';
import { loggerTo } from '../../common/log/logger';
import { CommonErrors } from '../../common/errors/common-errors';
import { durationToWire, timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import { mutualServerCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import type { StartTask } from '../../proto/gen/tidemark/worker/v1/StartTask';
import type { TaskProgress__Output } from '../../proto/gen/tidemark/worker/v1/TaskProgress';
import type { TaskResult__Output } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';

interface WaitingTask {
  readonly order: StartTask;
  /** The worker spoke of it. */
  known: boolean;
  resolve(result: TaskResult__Output): void;
  onProgress?: ((progress: TaskProgress__Output) => void) | undefined;
}

export class PluginRole {
  private readonly server = new Server();
  private readonly waiting = new Map<string, WaitingTask>();
  private readonly tests = new Map<string, (result: SelfTest__Output) => void>();
  private outbox: ConnectResponse[] = [];
  private wake: () => void = () => undefined;
  private connected = 0;
  private onDrained: () => void = () => undefined;
  /** False: the plug-in is silent, as one that hangs. */
  beats = true;
  /** Agreed with workers that dial from now on. A test that computes answers nobody meanwhile. */
  heartbeatMs = 5_000;
  /** In the last Hello. */
  reportedCapabilities: string[] = [];
  /** Ids in the last Hello. */
  reportedTaskIds: string[] = [];
  port = 0;
  /** False: results are not acknowledged, as by a plug-in that dies before it stored them. */
  acknowledges = true;

  async start(identity: ProcessIdentity): Promise<void> {
    const { service } = loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerService');
    const logger = loggerTo(() => undefined);
    serve<WorkerServiceDefinition>(
      this.server,
      service,
      {
        Connect: { roles: ['worker'], bidi: (requests, context) => this.connect(requests, context.signal) },
        RenewCertificate: {
          roles: ['worker'],
          unary: async () => {
            throw CommonErrors.HOST_NOT_READY({});
          },
        },
      },
      { logger, domain: 'plugin' },
    );
    this.port = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync('127.0.0.1:0', mutualServerCredentials(identity), (error, port) => (error ? reject(error) : resolve(port))),
    );
  }

  get connections(): number {
    return this.connected;
  }

  /** Hands a task to the worker; resolves with its result, whatever it is. */
  run(
    task: Omit<StartTask, 'taskId' | 'correlationId'>,
    onProgress?: (progress: TaskProgress__Output) => void,
  ): { taskId: string; result: Promise<TaskResult__Output> } {
    const taskId = randomUUID();
    const order = { ...task, taskId, correlationId: randomUUID() };
    const result = new Promise<TaskResult__Output>((resolve) => this.waiting.set(taskId, { order, known: false, resolve, onProgress }));
    this.say({ startTask: order });
    return { taskId, result };
  }

  /** Tells a running task that its session is served by another mover. */
  changeDataPath(taskId: string, dataPath: DataPath): void {
    this.say({ changeDataPath: { taskId, dataPath } });
  }

  cancel(taskId: string): void {
    this.say({ cancelTask: { taskId } });
  }

  /** Resolves with the worker's matrix. */
  selfTest(targets: readonly SelfTestTarget[]): Promise<SelfTest__Output> {
    const testId = randomUUID();
    const report = new Promise<SelfTest__Output>((resolve) => this.tests.set(testId, resolve));
    this.say({ runSelfTest: { testId, sentAt: timestampToWire(new Date()), targets: [...targets] } });
    return report;
  }

  /** Resolves when the worker says that it has drained. */
  drain(): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.onDrained = resolve));
    this.say({ drain: {} });
    return drained;
  }

  /** Ends the worker's stream, as a restarted plug-in would. */
  dropConnection: () => void = () => undefined;

  stop(): void {
    this.server.forceShutdown();
  }

  private say(message: ConnectResponse): void {
    this.outbox.push(message);
    this.wake();
  }

  private async *connect(requests: AsyncIterable<ConnectRequest__Output>, signal: AbortSignal): AsyncGenerator<ConnectResponse> {
    let ended = false;
    const end = () => {
      ended = true;
      this.wake();
    };
    this.dropConnection = end;
    signal.addEventListener('abort', end);
    void this.listen(requests).then(end, end);
    const beat = setInterval(() => this.beats && this.say({ heartbeat: { residentMemoryBytes: '0' } }), 500);
    try {
      for (;;) {
        const message = this.outbox.shift();
        if (message) yield message;
        else if (ended) return;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      clearInterval(beat);
    }
  }

  private know(taskId: string): WaitingTask | undefined {
    const task = this.waiting.get(taskId);
    if (task) task.known = true;
    return task;
  }

  private async listen(requests: AsyncIterable<ConnectRequest__Output>): Promise<void> {
    for await (const message of requests) {
      if (message.hello) {
        this.connected += 1;
        this.reportedTaskIds = message.hello.taskIds;
        this.reportedCapabilities = message.hello.process?.capabilities ?? [];
        this.say({ welcome: { heartbeatInterval: durationToWire(this.heartbeatMs) } });
        for (const taskId of message.hello.taskIds) this.know(taskId);
        // A worker that heard nothing for too long (a test that computes answers nobody) comes again, and what was said to its stream before may be lost.
        const unsent = new Set(this.outbox.map(({ startTask }) => startTask?.taskId));
        for (const [taskId, { order, known }] of this.waiting) if (!known && !unsent.has(taskId)) this.say({ startTask: order });
      } else if (message.progress) {
        this.know(message.progress.taskId)?.onProgress?.(message.progress);
      } else if (message.drained) {
        this.onDrained();
      } else if (message.selfTestReport) {
        const { testId, result } = message.selfTestReport;
        if (result) this.tests.get(testId)?.(result);
      } else if (message.result) {
        if (!this.acknowledges) continue;
        const { taskId } = message.result;
        this.say({ resultStored: { taskId } });
        this.waiting.get(taskId)?.resolve(message.result);
        this.waiting.delete(taskId);
      }
    }
  }
}
