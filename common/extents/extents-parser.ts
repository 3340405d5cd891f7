import { ExtentsErrors } from './extents-errors';

/** One extent as the service reports it: bytes `[start, start + length)`. `dirty` is false unless the dirty context was asked for. */
export type ExtentSink = (start: number, length: number, zero: boolean, dirty: boolean) => void;

const keys = ['start', 'length', 'zero', 'dirty'] as const;
type Key = (typeof keys)[number];

/**
 * Reads `[{"start": 0, "length": 65536, "zero": false, …}, …]` as it arrives, in memory that does not depend on its length (an 8 TiB disk can
 * have millions of extents, one JSON text of gigabytes). Objects are flat; unknown keys are skipped. Checks that extents are ascending
 * and without gaps. Throws IMAGE_EXTENTS_INVALID.
 */
export class ExtentsParser {
  /** End of the last extent: the size of the image. */
  endBytes = 0;
  private depth = 0;
  private token = '';
  private inText = false;
  private key = '';
  private started = false;
  private finished = false;
  private start = -1;
  private length = -1;
  private zero = false;
  private dirty = false;

  constructor(private readonly sink: ExtentSink) {}

  push(chunk: Uint8Array): void {
    for (const byte of chunk) {
      if (this.inText) {
        if (byte === 0x22) this.inText = false;
        else if (byte === 0x5c) this.refuse('an escaped text');
        else this.append(byte);
        continue;
      }
      switch (byte) {
        case 0x20:
        case 0x09:
        case 0x0a:
        case 0x0d:
          break;
        case 0x22: // "
          if (this.token !== '') this.refuse('a text within a value');
          this.inText = true;
          break;
        case 0x3a: // :
          if (this.depth !== 2 || this.key !== '' || this.token === '') this.refuse('a colon out of place');
          this.key = this.token;
          this.token = '';
          break;
        case 0x2c: // ,
          if (this.depth === 2) this.endValue();
          else if (this.depth !== 1 || this.token !== '') this.refuse('a comma out of place');
          break;
        case 0x5b: // [
          if (this.depth !== 0 || this.started) this.refuse('a nested list');
          this.started = true;
          this.depth = 1;
          break;
        case 0x7b: // {
          if (this.depth !== 1) this.refuse('a nested object');
          this.depth = 2;
          this.start = -1;
          this.length = -1;
          this.zero = false;
          this.dirty = false;
          break;
        case 0x7d: // }
          if (this.depth !== 2) this.refuse('a brace out of place');
          this.endValue();
          this.depth = 1;
          this.emit();
          break;
        case 0x5d: // ]
          if (this.depth !== 1 || this.token !== '') this.refuse('a bracket out of place');
          this.depth = 0;
          this.finished = true;
          break;
        default:
          this.append(byte);
      }
    }
  }

  /** Call when the text has ended; throws when it ended too early. */
  end(): void {
    if (!this.finished) this.refuse('the list is cut');
  }

  private append(byte: number): void {
    if (this.depth !== 2 || this.token.length > 64) this.refuse('a value out of place');
    this.token += String.fromCharCode(byte);
  }

  private endValue(): void {
    if (this.key === '' || this.token === '') this.refuse('a key without a value');
    const { key, token } = this;
    this.key = '';
    this.token = '';
    if (!(keys as readonly string[]).includes(key)) return;
    this.set(key as Key, token);
  }

  private set(key: Key, token: string): void {
    if (key === 'start' || key === 'length') {
      const value = Number(token);
      if (!/^\d+$/.test(token) || !Number.isSafeInteger(value)) this.refuse(`${key} is ${token}`);
      this[key] = value;
    } else {
      if (token !== 'true' && token !== 'false') this.refuse(`${key} is ${token}`);
      this[key] = token === 'true';
    }
  }

  private emit(): void {
    if (this.start !== this.endBytes || this.length <= 0) this.refuse(`an extent starts at ${this.start} and not at ${this.endBytes}`);
    this.endBytes = this.start + this.length;
    this.sink(this.start, this.length, this.zero, this.dirty);
  }

  private refuse(problem: string): never {
    throw ExtentsErrors.IMAGE_EXTENTS_INVALID({ problem });
  }
}
