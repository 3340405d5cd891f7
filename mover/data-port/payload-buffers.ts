/** Buffers kept for the next payload, over all connections. */
const maxFree = 32;

/** Memory for payloads while they arrive: as much as there are frames under way, reused. */
export class PayloadBuffers {
  private readonly free: Buffer[] = [];

  /** At least `bytes` long. */
  take(bytes: number): Buffer {
    const buffer = this.free.pop();
    // Repositories may differ in block size; a buffer that is too small is let go.
    return buffer && buffer.length >= bytes ? buffer : Buffer.allocUnsafeSlow(bytes);
  }

  give(buffer: Buffer): void {
    if (this.free.length < maxFree) this.free.push(buffer);
  }
}
