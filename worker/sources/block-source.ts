/**
 * Where a backup's bytes come from: images of the image service, or devices and files of this machine. A source is opened once per lane and
 * reads ranges into the lane's own buffers. It knows nothing of blocks, digests or movers.
 */

/** Reads ranges of one disk; up to `concurrency` reads at a time. */
export interface BlockSource {
  readonly concurrency: number;
  /** Longest range of one read. */
  readonly maxReadBytes: number;
  /** Fills `target` with the bytes from `offset`; short data is an error. */
  read(offset: number, target: Buffer): Promise<void>;
  close(): Promise<void>;
}
