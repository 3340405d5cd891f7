import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { timestampToWire } from '../../common/rpc/bytes';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { SelfTestReport__Output } from '../../proto/gen/tidemark/worker/v1/SelfTestReport';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import { WorkerErrors } from './worker-errors';

interface PendingTest {
  readonly targets: readonly SelfTestTarget[];
  readonly report: (result: SelfTest__Output) => void;
  readonly fail: (error: TidemarkError) => void;
}

/** The self-tests that one worker was asked for, over breaks of its stream. */
export class SelfTests {
  readonly #pending = new Map<string, PendingTest>();

  constructor(
    private readonly workerId: string,
    private readonly timeoutMs: number,
    private readonly now: () => number,
    private readonly send: (message: ConnectResponse) => void,
  ) {}

  /** Rejects with WORKER_LOST, DEADLINE_EXCEEDED, CANCELLED. */
  run(targets: readonly SelfTestTarget[], signal: AbortSignal): Promise<SelfTest__Output> {
    const testId = randomUUID();
    const what = `the self-test of worker ${this.workerId}`;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(CommonErrors.CANCELLED({ what }));
      const end = () => {
        this.#pending.delete(testId);
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
      };
      const fail = (error: TidemarkError) => {
        end();
        reject(error);
      };
      // The worker ends by itself; its report is then one that nobody waits for.
      const abort = () => fail(CommonErrors.CANCELLED({ what }));
      const timer = setTimeout(() => fail(CommonErrors.DEADLINE_EXCEEDED({ what, timeoutMs: this.timeoutMs })), this.timeoutMs);
      signal.addEventListener('abort', abort, { once: true });
      const report = (result: SelfTest__Output) => {
        end();
        resolve(result);
      };
      this.#pending.set(testId, { targets, report, fail });
      this.#ask(testId, targets);
    });
  }

  report({ testId, result }: SelfTestReport__Output): void {
    if (result) this.#pending.get(testId)?.report(result);
  }

  /** After a break: asked again, which a worker that still has the test takes for the same one; a worker that restarted is another. */
  reconcile(restarted: boolean): void {
    if (restarted) return this.loseAll();
    for (const [testId, { targets }] of this.#pending) this.#ask(testId, targets);
  }

  loseAll(): void {
    for (const test of [...this.#pending.values()]) {
      test.fail(WorkerErrors.WORKER_LOST({ workerId: this.workerId, during: 'its self-test' }));
    }
  }

  #ask(testId: string, targets: readonly SelfTestTarget[]): void {
    this.send({ runSelfTest: { testId, sentAt: timestampToWire(new Date(this.now())), targets: [...targets] } });
  }
}
