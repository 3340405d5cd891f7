import { durationToWire, timestampToWire } from '../../common/rpc/bytes';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import { Outbox } from './outbox';

/** Messages that may wait for a worker that reads slowly. */
const outboxLimit = 1000;
/**
 * A worker that was not heard for so many heartbeat intervals of ours is lost. Counted and not measured: when this process was stopped, or got
 * no processor, what workers sent meanwhile is still to be read, and such a pause counts for one.
 */
const silentIntervals = 3;

export interface SessionListener {
  message(request: ConnectRequest__Output): void;
  closed(silent: boolean): void;
}

/** One open stream of one worker: what it sends, what it is sent, and whether it is still alive. */
export class WorkerSession {
  readonly #outbox = new Outbox<ConnectResponse>(outboxLimit);
  #beat: NodeJS.Timeout | undefined;
  #unheard = 0;
  #open = true;
  #silent = false;

  constructor(
    heartbeatMs: number,
    now: () => number,
    private readonly listener: SessionListener,
  ) {
    this.#beat = setInterval(() => {
      this.#unheard += 1;
      if (this.#unheard > silentIntervals) {
        this.#silent = true;
        return this.close();
      }
      this.send({ heartbeat: { residentMemoryBytes: String(process.memoryUsage.rss()), sentAt: timestampToWire(new Date(now())) } });
    }, heartbeatMs);
    this.send({ welcome: { heartbeatInterval: durationToWire(heartbeatMs) } });
  }

  get isOpen(): boolean {
    return this.#open;
  }

  send(message: ConnectResponse): void {
    if (!this.#outbox.push(message)) this.close();
  }

  /** What goes down the stream; ends when the session is closed. */
  replies(): AsyncGenerator<ConnectResponse> {
    return this.#outbox.read();
  }

  /** Reads the worker's messages until the stream ends; never rejects. */
  async receive(requests: AsyncIterator<ConnectRequest__Output>): Promise<void> {
    try {
      while (this.#open) {
        const next = await requests.next();
        if (next.done === true || !this.#open) break;
        this.#unheard = 0;
        this.listener.message(next.value);
      }
    } catch {
      // A broken stream is an ordinary end here: the worker dials again, or is lost after the grace time.
    }
    this.close();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#beat);
    this.#outbox.close();
    this.listener.closed(this.#silent);
  }
}
