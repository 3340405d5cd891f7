import { timestampFromWire } from '../../common/rpc/bytes';
import { RpcClient } from '../../common/rpc/call';
import { failureMessage } from '../../common/rpc/failure-message';
import type { RenewableCredentials } from '../../common/rpc/renewable-channel';
import { CommonErrors } from '../../common/errors/common-errors';
import type { DuplexCall } from '../../common/rpc/call';
import { loadService } from '../../proto/loader';
import type { ConnectRequest } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse__Output } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { RunSelfTest__Output } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import type { TaskResult } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import type { TrustUpdate__Output } from '../../proto/gen/tidemark/worker/v1/TrustUpdate';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';

/** A worker that speaks the real contract over a real connection and does what the test says. */
export class ScriptedWorker {
  readonly tasks: StartTask__Output[] = [];
  readonly cancelled: string[] = [];
  readonly stored: string[] = [];
  readonly tests: RunSelfTest__Output[] = [];
  readonly trust: TrustUpdate__Output[] = [];
  drains = 0;
  resumes = 0;
  /** When the plug-in's heartbeats were sent, by its own clock. */
  readonly heartbeats: (Date | undefined)[] = [];
  ended: unknown = undefined;
  /** Answers cancels at once unless the test wants otherwise. */
  answersCancel = true;
  readonly #client: RpcClient<WorkerServiceDefinition>;
  #call: DuplexCall<ConnectRequest, ConnectResponse__Output> | undefined;

  constructor(endpoint: string, credentials: RenewableCredentials) {
    this.#client = new RpcClient(
      loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerService').service,
      endpoint,
      credentials,
    );
  }

  connect(hello: Hello): void {
    const call = this.#client.duplex('Connect', { idleTimeoutMs: 120_000 });
    this.#call = call;
    this.ended = undefined;
    void this.#read(call);
    this.send({ hello });
  }

  send(message: ConnectRequest): void {
    void this.#call?.send(message).catch(() => undefined);
  }

  finish(taskId: string, result: Omit<TaskResult, 'taskId'> = {}): void {
    this.send({ result: { taskId, imagePath: 'IMAGE_PATH_DIRECT', ...result } });
  }

  renew(certificateRequestPem: string) {
    return this.#client.call('RenewCertificate', { certificateRequestPem }, { deadlineMs: 120_000 });
  }

  /** The stream breaks, the process lives. */
  breakStream(): void {
    this.#call?.cancel();
  }

  close(): void {
    this.#call?.cancel();
    this.#client.close();
  }

  async #read(call: DuplexCall<ConnectRequest, ConnectResponse__Output>): Promise<void> {
    try {
      for await (const message of call.replies) this.#receive(message);
      this.ended = 'clean';
    } catch (error) {
      this.ended = error;
    }
  }

  #receive(message: ConnectResponse__Output): void {
    if (message.startTask) this.tasks.push(message.startTask);
    else if (message.cancelTask) {
      this.cancelled.push(message.cancelTask.taskId);
      if (this.answersCancel) this.finish(message.cancelTask.taskId, { failure: failureMessage(CommonErrors.CANCELLED({ what: 'task' })) });
    } else if (message.resultStored) this.stored.push(message.resultStored.taskId);
    else if (message.drain) this.drains += 1;
    else if (message.resume) this.resumes += 1;
    else if (message.heartbeat) this.heartbeats.push(timestampFromWire(message.heartbeat.sentAt));
    else if (message.runSelfTest) this.tests.push(message.runSelfTest);
    else if (message.trustUpdate) this.trust.push(message.trustUpdate);
  }
}
