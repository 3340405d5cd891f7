import { randomUUID } from 'node:crypto';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { RunSelfTest } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { TrustUpdate } from '../../proto/gen/tidemark/worker/v1/TrustUpdate';
import { failureMessage } from '../../common/rpc/failure-message';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { ConnectedFleet } from '../workers/connected-fleet';
import { Outbox } from '../workers/outbox';

/** How a task ends: with a failure or without; `hang` runs until it is cancelled. */
export type WorkerAnswer =
  | {
      readonly failure?: TidemarkError;
      readonly readBytes?: number;
      readonly imagePath?: 'IMAGE_PATH_DIRECT' | 'IMAGE_PATH_PROXY' | 'IMAGE_PATH_ATTACHED';
    }
  | 'hang';

export interface MemoryWorkerPlace {
  readonly platformId: string;
  readonly clusterId: string;
  readonly capabilities: readonly string[];
  /** The same again: the process that dialled before dials again. */
  readonly bootId?: string;
}

const besideServer: MemoryWorkerPlace = { platformId: '', clusterId: '', capabilities: [] };

/** A worker inside the test process: no network, the real fleet. */
export class MemoryWorker {
  readonly tasks: StartTask__Output[] = [];
  readonly cancelled: string[] = [];
  /** Decides each task's end. */
  answer: (task: StartTask__Output) => WorkerAnswer | Promise<WorkerAnswer> = () => ({ readBytes: 1000 });
  readonly #up = new Outbox<ConnectRequest__Output>(1000);
  readonly #beat: NodeJS.Timeout;

  constructor(
    fleet: ConnectedFleet,
    readonly workerId = 'memory',
    taskSlots = 4,
    place: MemoryWorkerPlace = besideServer,
  ) {
    const processInfo = {
      instanceId: workerId,
      bootId: place.bootId ?? randomUUID(),
      version: '1',
      protocols: ['tidemark.worker.v1'],
      capabilities: [...place.capabilities],
      hostName: workerId,
    };
    const where = { platformId: place.platformId, clusterId: place.clusterId };
    const unsaid = { imageVersion: '', trust: null, cpuCount: 1, memoryBytes: '0' };
    this.#send({ hello: { process: processInfo, taskSlots, ...where, addresses: [], taskIds: [], ...unsaid } });
    this.#beat = setInterval(() => this.#send({ heartbeat: { residentMemoryBytes: '1', sentAt: null, trust: null } }), 500);
    this.#beat.unref();
    void this.#read(fleet);
  }

  /** What it makes of self-tests; without it they stay open. */
  selfTest: ((test: RunSelfTest) => SelfTest__Output) | undefined;
  /** Trust that was passed on to it. */
  readonly trust: TrustUpdate[] = [];

  /** The worker is gone for good. */
  kill(): void {
    clearInterval(this.#beat);
    this.#up.close();
  }

  async #read(fleet: ConnectedFleet): Promise<void> {
    for await (const message of fleet.connect(this.workerId, this.#up.read())) {
      if (message.startTask) void this.#run(message.startTask as StartTask__Output);
      if (message.runSelfTest && this.selfTest) {
        const result = this.selfTest(message.runSelfTest);
        this.#send({ selfTestReport: { testId: message.runSelfTest.testId ?? '', result } });
      }
      if (message.trustUpdate) this.trust.push(message.trustUpdate);
      const cancelled = message.cancelTask?.taskId;
      if (cancelled !== undefined) {
        this.cancelled.push(cancelled);
        this.#result(cancelled, { failure: CommonErrors.CANCELLED({ what: 'task' }) });
      }
    }
    this.kill();
  }

  async #run(task: StartTask__Output): Promise<void> {
    this.tasks.push(task);
    const answer = await this.answer(task);
    if (answer !== 'hang') this.#result(task.taskId, answer);
  }

  #result(taskId: string, answer: Exclude<WorkerAnswer, 'hang'>): void {
    const counters = {
      plannedBytes: '1000',
      readBytes: String(answer.readBytes ?? 0),
      transferredBytes: '10',
      storedBytes: '5',
      zeroBytes: '0',
      deduplicatedBytes: '0',
    };
    this.#send({ progress: { taskId, counters, totalBytes: '1000' } });
    this.#send({
      result: {
        taskId,
        failure: answer.failure ? (failureMessage(answer.failure) as never) : null,
        counters,
        imagePath: answer.imagePath ?? 'IMAGE_PATH_DIRECT',
        imagePathReason: '',
        indexRoot: Buffer.alloc(0),
      },
    });
  }

  #send(message: ConnectRequest__Output): void {
    this.#up.push(message);
  }
}
