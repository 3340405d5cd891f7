import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { durableWrite } from '../../common/tls/durable-write';
import type { TicketKeys } from '../data-port/ticket-check';

const schema = z.array(z.string());

/** The host's public ticket keys as it last told them; kept, so that a mover which starts before its host can go on with running sessions. */
export class KnownTicketKeys implements TicketKeys {
  private keys: readonly string[] = [];

  constructor(private readonly folder: string) {
    try {
      this.keys = schema.parse(JSON.parse(fs.readFileSync(this.file, 'utf8')));
    } catch {
      // None yet, or damaged: the host tells them at registration.
    }
  }

  get publicKeysPem(): readonly string[] {
    return this.keys;
  }

  replace(keys: readonly string[]): void {
    if (keys.length === 0 || (keys.length === this.keys.length && keys.every((key, i) => key === this.keys[i]))) return;
    this.keys = [...keys];
    durableWrite(this.file, JSON.stringify(keys));
  }

  private get file(): string {
    return path.join(this.folder, 'ticket-keys.json');
  }
}
