import fs from 'node:fs';
import path from 'node:path';
import type { Installation } from '../harness/installation';

/** Where the demo's repository lies, and who reads it without a server. */
export interface Place {
  /** Adds the repository `main`, and starts what it needs. */
  add(): Promise<void>;
  /** Reads one disk of a point into a raw file, with the offline reader. */
  readOffline(pointId: string, diskId: string, out: string): Promise<void>;
  /** What the reader is, for the report. */
  readonly reader: string;
  /** A backup in the middle of which something goes wrong that only this place has; undefined when there is nothing. */
  readonly mishap?: () => Promise<void>;
  stop(): Promise<void>;
}

/** A folder on the machine of the server's own mover. */
export class FolderPlace implements Place {
  readonly reader = 'offline reader';
  readonly #folder: string;
  readonly #passphraseFile: string;

  constructor(
    folder: string,
    private readonly installation: Installation,
  ) {
    this.#folder = path.join(folder, 'repository');
    this.#passphraseFile = path.join(folder, 'passphrase');
  }

  async add(): Promise<void> {
    fs.writeFileSync(this.#passphraseFile, 'the demo has no secrets', { mode: 0o600 });
    await this.installation.cli(
      ...['repository', 'add', 'main', '--location', this.#folder],
      ...['--passphrase-file', this.#passphraseFile],
    );
  }

  async readOffline(pointId: string, diskId: string, out: string): Promise<void> {
    await this.installation.cli(
      ...['point', 'read', '--repository', this.#folder, '--passphrase-file', this.#passphraseFile],
      ...['--point', pointId, '--disk', diskId, '--out', out],
    );
  }

  async stop(): Promise<void> {
    // It is a folder.
  }
}
