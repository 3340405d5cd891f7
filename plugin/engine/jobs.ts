/** The engine's jobs, by correlation id. They vanish: finished after 10 minutes, failed after 60. Engine REST API §11. */
import type { EngineClient } from './engine-client';
import { quoted } from './engine-client';
import type { RequestOptions } from './engine-session';
import { dateOf, textOf } from './mapping';

export interface Job {
  readonly id: string;
  readonly description: string;
  /** started, finished, failed, aborted, unknown. */
  readonly status: string;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
}

export class Jobs {
  constructor(private readonly client: EngineClient) {}

  async byCorrelationId(correlationId: string, options: RequestOptions = {}): Promise<readonly Job[]> {
    const rows = await this.client.list('/jobs', 'job', { ...options, query: { search: `correlation_id=${quoted(correlationId)}` } });
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      description: textOf(row, 'description') ?? '',
      status: textOf(row, 'status') ?? 'unknown',
      startedAt: dateOf(row, 'start_time'),
      endedAt: dateOf(row, 'end_time'),
    }));
  }
}
