import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';

/** Ids that join the log lines of one piece of work over all processes. */
export interface Correlation {
  readonly correlationId: string;
  readonly jobName?: string;
  readonly sessionId?: string;
  readonly taskId?: string;
  readonly operationId?: string;
}

const storage = new AsyncLocalStorage<Correlation>();

/** Runs `work` with these ids; log lines and calls made inside carry them. */
export function withCorrelation<T>(correlation: Correlation, work: () => T): T {
  return storage.run(correlation, work);
}

export function currentCorrelation(): Correlation | undefined {
  return storage.getStore();
}

export function newCorrelationId(): string {
  return randomUUID();
}
