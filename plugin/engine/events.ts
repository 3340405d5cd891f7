/** The engine's events: reasons that its answers do not give, and changes. Engine REST API §11. */
import type { EngineClient } from './engine-client';
import { quoted } from './engine-client';
import type { RequestOptions } from './engine-session';
import { dateOf, idOf, integerOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface EngineEvent {
  /** Grows; also the position for {@link Events.since}. */
  readonly index: number;
  readonly code: number;
  /** normal, warning, error, alert. */
  readonly severity: string;
  readonly time: Date | undefined;
  readonly description: string;
  readonly correlationId: string | undefined;
  /** Absent, beside a name, when the VM is gone. */
  readonly vmId: string | undefined;
  readonly vmName: string | undefined;
}

export class Events {
  constructor(private readonly client: EngineClient) {}

  /** Newest first. `search` is the engine's language. */
  async list(options: RequestOptions & { search?: string; max?: number } = {}): Promise<readonly EngineEvent[]> {
    const { search, max = 100, ...rest } = options;
    return (await this.client.list('/events', 'event', { ...rest, query: { search, max } })).map(eventOf);
  }

  byCorrelationId(correlationId: string, options: RequestOptions & { max?: number } = {}): Promise<readonly EngineEvent[]> {
    return this.list({ ...options, search: `correlation_id=${quoted(correlationId)}` });
  }

  /** After this index, oldest first; `complete` is false when there were more than `max`, of which the oldest are missing. */
  async since(
    index: number,
    options: RequestOptions & { max?: number } = {},
  ): Promise<{ events: readonly EngineEvent[]; complete: boolean }> {
    const { max = 500, ...rest } = options;
    const rows = await this.client.list('/events', 'event', { ...rest, query: { from: index > 0 ? index : undefined, max } });
    const events = rows.map(eventOf).filter((event) => event.index > index);
    return { events: events.sort((a, b) => a.index - b.index), complete: rows.length < max };
  }

  /** What the engine logged as having gone wrong under this correlation id; undefined when nothing did. For answers without a reason. */
  async failureText(correlationId: string, options: RequestOptions = {}): Promise<string | undefined> {
    const events = await this.byCorrelationId(correlationId, { ...options, max: 50 });
    return events.find((event) => event.severity === 'error' || event.severity === 'alert' || event.severity === 'warning')?.description;
  }
}

function eventOf(wire: Wire): EngineEvent {
  const vm = objectOf(wire, 'vm');
  return {
    index: integerOf(wire, 'index') ?? integerOf(wire, 'id') ?? 0,
    code: integerOf(wire, 'code') ?? 0,
    severity: textOf(wire, 'severity') ?? '',
    time: dateOf(wire, 'time'),
    description: textOf(wire, 'description') ?? '',
    correlationId: textOf(wire, 'correlation_id'),
    vmId: idOf(wire, 'vm'),
    vmName: vm && textOf(vm, 'name'),
  };
}
