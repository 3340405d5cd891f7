import type { KeptEvent, KeptEvents, OutboxFile } from '../host/outbox-file';

/** What a killed process leaves to the next one. */
export class MemoryOutboxFile implements OutboxFile {
  kept: KeptEvents = { acknowledged: 0, dropped: 0, events: [] };

  read(): KeptEvents {
    return this.kept;
  }

  append(event: KeptEvent): void {
    this.kept = { ...this.kept, events: [...this.kept.events, event] };
  }

  replace(kept: KeptEvents): void {
    this.kept = { ...kept, events: [...kept.events] };
  }
}
