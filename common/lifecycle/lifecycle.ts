import { CommonErrors } from '../errors/common-errors';
import type { Logger } from '../log/logger';

/** Something that is started once and stopped once. */
export interface Service {
  readonly name: string;
  start(): Promise<void>;
  /** Must end within the time given; what is left then is cut off by the process's end. */
  stop(): Promise<void>;
}

/** Starts services in order, stops them in reverse. A failing start stops what had started. */
export class Lifecycle {
  readonly #started: Service[] = [];

  constructor(
    private readonly services: readonly Service[],
    private readonly logger: Logger,
    private readonly stopTimeoutMs = 10_000,
  ) {}

  async start(): Promise<void> {
    for (const service of this.services) {
      try {
        await service.start();
        this.#started.push(service);
      } catch (error) {
        await this.stop();
        throw error;
      }
    }
  }

  async stop(): Promise<void> {
    for (let service = this.#started.pop(); service; service = this.#started.pop()) {
      try {
        await within(service.stop(), this.stopTimeoutMs, `stopping ${service.name}`);
      } catch (error) {
        // The others must still be stopped; the process ends anyway.
        this.logger.warn('service did not stop cleanly', { service: service.name, error });
      }
    }
  }
}

/** Rejects with DEADLINE_EXCEEDED when the promise takes longer. The work itself goes on. */
export async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(CommonErrors.DEADLINE_EXCEEDED({ what, timeoutMs })), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
