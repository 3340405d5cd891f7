import fs from 'node:fs';
import path from 'node:path';
import { folderBytes, measureCommand } from './measure';
import type { Cost } from './measure';
import type { S3Server } from './s3-server';

/** In the order in which they run. */
export const caseNames = ['first', 'second', 'incremental', 'verify', 'restore', 'collect'] as const;
export type CaseName = (typeof caseNames)[number];

/** One tool in one mode, with a repository of its own. */
export interface Contender {
  readonly name: string;
  readonly cases: readonly CaseName[];
  /** A fresh repository; not measured. */
  prepare(folder: string, image: string): Promise<void>;
  run(name: CaseName): Promise<Cost>;
  /** Bytes stored after the first backup. */
  storedBytes(): Promise<number>;
  restoredFile(): string;
  cleanUp(): Promise<void>;
}

abstract class CommandContender implements Contender {
  readonly cases: readonly CaseName[] = ['first', 'second', 'incremental', 'restore'];
  protected folder = '';
  protected image = '';

  constructor(readonly name: string) {}

  async prepare(folder: string, image: string): Promise<void> {
    this.folder = folder;
    this.image = image;
    fs.mkdirSync(this.repository, { recursive: true });
    await this.initialise();
  }

  abstract run(name: CaseName): Promise<Cost>;
  protected abstract initialise(): Promise<void>;

  async storedBytes(): Promise<number> {
    return folderBytes(this.repository);
  }

  restoredFile(): string {
    return path.join(this.folder, 'restored', this.image);
  }

  async cleanUp(): Promise<void> {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }

  protected get repository(): string {
    return path.join(this.folder, 'repository');
  }

  protected get target(): string {
    const target = path.join(this.folder, 'restored');
    fs.mkdirSync(target, { recursive: true });
    return target;
  }
}

/** restic as it comes: encrypted, compression automatic. Each backup reads the file in full (`--force`), as a disk has no modification time. */
export class Restic extends CommandContender {
  override readonly cases: readonly CaseName[] = caseNames;
  private prefix = '';

  /** In a folder, or with a server in a bucket. */
  constructor(private readonly server?: () => Promise<S3Server>) {
    super(server ? 'restic s3' : 'restic');
  }

  protected async initialise(): Promise<void> {
    if (this.server) this.prefix = (await this.server()).newPrefix();
    await this.restic('init', '--repository-version', '2');
  }

  run(name: CaseName): Promise<Cost> {
    switch (name) {
      case 'restore':
        return this.restic('restore', 'latest', '--target', this.target);
      case 'verify':
        return this.restic('check', '--read-data');
      case 'collect':
        return this.restic('forget', '--keep-last', '1', '--prune');
      default:
        return this.restic('backup', '--force', this.image);
    }
  }

  override async storedBytes(): Promise<number> {
    return this.server ? (await this.server()).bytes(this.prefix) : super.storedBytes();
  }

  override async cleanUp(): Promise<void> {
    await (await this.server?.())?.empty(this.prefix);
    await super.cleanUp();
  }

  private async restic(...args: string[]): Promise<Cost> {
    const server = await this.server?.();
    const env = {
      RESTIC_PASSWORD: 'bench',
      RESTIC_REPOSITORY: server ? server.url(this.prefix) : this.repository,
      RESTIC_CACHE_DIR: path.join(this.folder, 'cache'),
      ...(server && {
        AWS_ACCESS_KEY_ID: server.keys.accessKeyId,
        AWS_SECRET_ACCESS_KEY: server.keys.secretAccessKey,
        AWS_DEFAULT_REGION: 'default',
      }),
    };
    return measureCommand(['restic', '-q', ...args], { cwd: this.folder, env });
  }
}

/** borg in one of its modes; the file cache is off for the same reason. */
export class Borg extends CommandContender {
  private archive = '';
  private count = 0;

  constructor(
    name: string,
    private readonly encryption: string,
    private readonly options: readonly string[],
  ) {
    super(name);
  }

  protected async initialise(): Promise<void> {
    fs.rmSync(this.repository, { recursive: true, force: true });
    await this.borg('init', '-e', this.encryption, this.repository);
  }

  run(name: CaseName): Promise<Cost> {
    if (name === 'restore') return this.borg('extract', `${this.repository}::${this.archive}`);
    this.count += 1;
    this.archive = `a${this.count}`;
    return this.borg('create', '--files-cache', 'disabled', ...this.options, `${this.repository}::${this.archive}`, this.image);
  }

  private borg(...args: string[]): Promise<Cost> {
    const env = {
      BORG_PASSPHRASE: 'bench',
      BORG_BASE_DIR: path.join(this.folder, 'base'),
      BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
      BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
    };
    return measureCommand(['borg', ...args], { cwd: this.target, env });
  }
}

/** The yardstick: compression alone, with two threads, to a file. */
export class Zstd extends CommandContender {
  override readonly cases: readonly CaseName[] = ['first', 'restore'];

  constructor() {
    super('zstd -1 -T2');
  }

  protected async initialise(): Promise<void> {
    await Promise.resolve();
  }

  run(name: CaseName): Promise<Cost> {
    const packed = path.join(this.repository, 'image.zst');
    const args = name === 'restore' ? ['-d', packed, '-o', this.restoredFile()] : ['-1', '-T2', this.image, '-o', packed];
    if (name === 'restore') fs.mkdirSync(path.dirname(this.restoredFile()), { recursive: true });
    return measureCommand(['zstd', '-q', '-f', ...args], { cwd: this.folder });
  }
}
