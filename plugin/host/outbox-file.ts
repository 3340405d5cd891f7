/**
 * Where events wait for the host over a restart of the plug-in: `events.jsonl` in the data folder. The first line says how far the host had
 * acknowledged, each other one is an event, in order. No fsync: a kill loses nothing, and what a power cut takes is in the log too.
 */
import fs from 'node:fs';
import { z } from 'zod';

const headSchema = z.object({ v: z.literal(1), acknowledged: z.int().min(0), dropped: z.int().min(0) });
const eventSchema = z.object({
  severity: z.enum(['info', 'warning', 'error']),
  code: z.string(),
  message: z.string(),
  references: z.record(z.string(), z.string()).optional(),
  /** Milliseconds since the epoch. */
  occurredAt: z.number(),
});

export type KeptEvent = z.infer<typeof eventSchema>;

export interface KeptEvents {
  /** The host's last sequence; the first event has the next one. */
  readonly acknowledged: number;
  /** Events that were dropped and of which nobody was told yet. */
  readonly dropped: number;
  readonly events: readonly KeptEvent[];
}

export interface OutboxFile {
  /** Lines that are torn or damaged are left out. Nothing at all when there is no file, or its head is unreadable. */
  read(): KeptEvents;
  append(event: KeptEvent): void;
  replace(kept: KeptEvents): void;
}

export class DiskOutboxFile implements OutboxFile {
  constructor(private readonly file: string) {}

  read(): KeptEvents {
    let lines: string[] = [];
    try {
      lines = fs.readFileSync(this.file, 'utf8').split('\n');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const head = headSchema.safeParse(parsed(lines[0] ?? ''));
    if (!head.success) return { acknowledged: 0, dropped: 0, events: [] };
    const events = lines.slice(1).flatMap((line) => {
      const event = eventSchema.safeParse(parsed(line));
      return event.success ? [event.data] : [];
    });
    return { acknowledged: head.data.acknowledged, dropped: head.data.dropped, events };
  }

  append(event: KeptEvent): void {
    fs.appendFileSync(this.file, `${JSON.stringify(event)}\n`, { mode: 0o600 });
  }

  replace({ acknowledged, dropped, events }: KeptEvents): void {
    const lines = [{ v: 1, acknowledged, dropped }, ...events].map((line) => `${JSON.stringify(line)}\n`);
    fs.writeFileSync(`${this.file}.new`, lines.join(''), { mode: 0o600 });
    fs.renameSync(`${this.file}.new`, this.file);
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // The schemas refuse it.
    return undefined;
  }
}
