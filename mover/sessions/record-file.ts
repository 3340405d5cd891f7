/**
 * A session's record in the store. Every change replaces the very bytes that were written last, so that of two movers which both think they own a
 * session one finds out before it does anything that counts.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import { SerialQueue } from '../../common/flow/serial-queue';
import { decodeSession, encodeSession, MAX_SESSION_BYTES, sessionName, type SessionRecord } from '../format/session-record';
import { readDocument, type StoredDocument } from '../repository/read-document';
import type { Repository } from '../repository/repository';

/** Writes that failed and may have come through all the same. */
const unsureKept = 4;

export class RecordFile {
  private unsure: Buffer[] = [];
  /** Who asks whether the record is ours while it is being replaced would take our own next one for somebody else's. */
  private readonly steps = new SerialQueue();

  private constructor(
    private readonly repository: Repository,
    private readonly name: string,
    private bytes: Buffer | undefined,
  ) {}

  /** For a session that is not in the store yet. */
  static forNew(repository: Repository, sessionId: string): RecordFile {
    return new RecordFile(repository, sessionName(sessionId), undefined);
  }

  /** Undefined when there is none. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, and as `Store.readWhole`. */
  static async open(repository: Repository, sessionId: string): Promise<{ file: RecordFile; record: SessionRecord } | undefined> {
    const name = sessionName(sessionId);
    const found = await readRecord(repository, name);
    return found && { file: new RecordFile(repository, name, unpooled(found.bytes)), record: found.content };
  }

  /** False when the session exists. Throws as `Store.putNew`, ARGUMENT_INVALID when the record is too long. */
  async create(record: SessionRecord): Promise<boolean> {
    const content = this.encode(record);
    if (!(await this.repository.store.putNew(this.name, content))) return false;
    this.bytes = unpooled(content);
    return true;
  }

  /** False when somebody else replaced or removed it: then nothing was written. Throws as `Store.swap`; then it can be repeated. */
  async replace(record: SessionRecord): Promise<boolean> {
    const content = this.encode(record);
    return this.steps.run(() => this.replaceBy(content));
  }

  private async replaceBy(content: Buffer): Promise<boolean> {
    for (;;) {
      try {
        if (this.bytes && (await this.repository.store.swap(this.name, this.bytes, content))) break;
      } catch (error) {
        this.unsure = [...this.unsure.slice(1 - unsureKept), content];
        throw error;
      }
      const current = await readBytes(this.repository, this.name);
      if (current?.equals(content)) break;
      // A write of before that was answered with an error.
      const own = current && this.unsure.find((bytes) => bytes.equals(current));
      if (!own) return false;
      this.bytes = own;
      this.unsure = this.unsure.filter((bytes) => bytes !== own);
    }
    this.bytes = unpooled(content);
    this.unsure = [];
    return true;
  }

  /** True when the record is as this mover left it. Throws as `Store.readWhole`. */
  async isOurs(): Promise<boolean> {
    return this.steps.run(async () => {
      const current = await readBytes(this.repository, this.name);
      return current !== undefined && [this.bytes, ...this.unsure].some((bytes) => bytes?.equals(current));
    });
  }

  /** As it is now; undefined when it is gone. Throws as `open`. */
  async read(): Promise<SessionRecord | undefined> {
    return (await readRecord(this.repository, this.name))?.content;
  }

  private encode(record: SessionRecord): Buffer {
    return encodeSession(record, this.repository.keys?.document(this.name));
  }
}

/** A copy that keeps alive no more than itself: sessions that ended are kept for a day, and each would hold 64 KiB of what Node.js shares out. */
function unpooled(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** As it lies there, damaged or not. */
async function readBytes({ store }: Repository, name: string): Promise<Buffer | undefined> {
  try {
    return await store.readWhole(name, MAX_SESSION_BYTES);
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

function readRecord({ store, keys }: Repository, name: string): Promise<StoredDocument<SessionRecord> | undefined> {
  return readDocument(store, keys, name, MAX_SESSION_BYTES, decodeSession);
}
