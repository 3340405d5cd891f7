/**
 * Where a restore's bytes go: images of the image service, or files of this machine. A target is opened once per lane; ranges of different
 * lanes never overlap. It knows nothing of blocks, digests or movers.
 */

export interface BlockTarget {
  readonly maxWriteBytes: number;
  /** `bytes` may be reused when it resolves. */
  write(offset: number, bytes: Buffer): Promise<void>;
  /** The range must read as zeroes afterwards. */
  zero(offset: number, lengthBytes: number): Promise<void>;
  /** All is written; makes it as durable as this target can. */
  flush(): Promise<void>;
  close(): Promise<void>;
}
