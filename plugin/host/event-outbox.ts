/**
 * Events for the host, in order, kept until it acknowledged them, also over a restart of this process. A sequence number is the host's last
 * acknowledged one plus the place in the queue, so it stays the same until acknowledged, has no gaps, and goes on behind what the host
 * stored before a restart. Bounded: when the host is away for long the oldest events go first, and one event says how many.
 */
import type { PluginEvent } from '../../proto/gen/tidemark/host/v1/PluginEvent';
import { timestampToWire } from '../../common/rpc/bytes';
import type { Logger } from '../../common/log/logger';
import type { EventReporter, ReportedEvent, ReportedSeverity } from '../tokens';
import type { KeptEvent, OutboxFile } from './outbox-file';

/** Events sent at a time, the next ones once these are acknowledged. */
export const eventBatch = 100;

const severities: Record<ReportedSeverity, NonNullable<PluginEvent['severity']>> = {
  info: 'EVENT_SEVERITY_INFO',
  warning: 'EVENT_SEVERITY_WARNING',
  error: 'EVENT_SEVERITY_ERROR',
};

export class EventOutbox implements EventReporter {
  readonly #queue: KeptEvent[];
  #acknowledged: number;
  /** Sent since the last {@link resumeAfter}: these keep their numbers, so they may not be dropped. */
  #sent: number;
  #dropped: number;
  /** Lines of the file beyond its head: with those of dropped events. */
  #lines = 0;
  readonly #listeners = new Set<() => void>();

  constructor(
    private readonly logger: Logger,
    private readonly file: OutboxFile,
    private readonly limit = 1000,
  ) {
    const kept = this.#keeping(() => file.read()) ?? { acknowledged: 0, dropped: 0, events: [] };
    this.#queue = [...kept.events];
    this.#acknowledged = kept.acknowledged;
    this.#dropped = kept.dropped;
    // Which of them the process before had sent is the host's to say.
    this.#sent = Math.min(this.#queue.length, eventBatch, this.limit);
    while (this.#queue.length > this.limit) this.#drop();
    this.#rewrite();
  }

  get pending(): number {
    return this.#queue.length;
  }

  report(event: ReportedEvent): void {
    this.logger.info('event', { code: event.code, severity: event.severity, message: event.message, ...event.references });
    this.#push(event);
    for (const listener of [...this.#listeners]) listener();
  }

  /** The host told (at registration) what it has stored. */
  resumeAfter(acknowledged: number): void {
    // Of what was sent the host may have stored a part before the stream broke.
    const stored = acknowledged - this.#acknowledged;
    if (stored > 0 && stored <= this.#sent) this.#queue.splice(0, stored);
    const isNews = acknowledged !== this.#acknowledged;
    this.#acknowledged = acknowledged;
    this.#sent = 0;
    if (isNews) this.#rewrite();
  }

  /** The next events to send, numbered; empty when there are none. */
  take(most: number): PluginEvent[] {
    if (this.#sent === 0 && this.#dropped > 0) this.#noteDropped();
    // Which place an event has must be known to the next process before the host knows it.
    if (this.#lines !== this.#queue.length) this.#rewrite();
    const events = this.#queue.slice(0, most);
    this.#sent = Math.max(this.#sent, events.length);
    return events.map((event, index) => ({
      sequence: String(this.#acknowledged + 1 + index),
      occurredAt: timestampToWire(new Date(event.occurredAt)),
      severity: severities[event.severity],
      code: event.code,
      message: event.message,
      references: { ...event.references },
    }));
  }

  acknowledge(sequence: number): void {
    const stored = sequence - this.#acknowledged;
    if (stored <= 0) return;
    this.#queue.splice(0, stored);
    this.#acknowledged = sequence;
    this.#sent = Math.max(0, this.#sent - stored);
    this.#rewrite();
  }

  /** Resolves when something waits, or when the signal aborts. */
  waitForEvent(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#listeners.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      this.#listeners.add(end);
      signal.addEventListener('abort', end, { once: true });
      if (this.#queue.length > 0 || signal.aborted) end();
    });
  }

  #push({ severity, code, message, references }: ReportedEvent): void {
    const event: KeptEvent = { severity, code, message, ...(references && { references: { ...references } }), occurredAt: Date.now() };
    if (this.#queue.length >= this.limit) this.#drop();
    this.#queue.push(event);
    this.#lines += 1;
    if (this.#lines > 2 * this.limit) this.#rewrite();
    else this.#keeping(() => this.file.append(event));
  }

  #drop(): void {
    this.#queue.splice(this.#sent, 1);
    this.#dropped += 1;
  }

  #noteDropped(): void {
    const dropped = this.#dropped;
    this.#dropped = 0;
    const message = `${dropped} events of the time without connection to the server were dropped; the plug-in's log has them.`;
    this.#queue.unshift({ severity: 'warning', code: 'EVENTS_DROPPED', message, occurredAt: Date.now() });
    this.#rewrite();
  }

  #rewrite(): void {
    const kept = { acknowledged: this.#acknowledged, dropped: this.#dropped, events: this.#queue };
    this.#lines = this.#queue.length;
    this.#keeping(() => this.file.replace(kept));
  }

  /** A full disk must not stop what is reported; the events are sent all the same unless this process ends first. */
  #keeping<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.logger.warn('events that wait for the server cannot be kept over a restart', { error });
      return undefined;
    }
  }
}
