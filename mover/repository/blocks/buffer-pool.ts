/** A bounded pool of equal buffers. Who finds it empty waits its turn. */
export class BufferPool {
  private readonly free: Buffer[] = [];
  private readonly waiting: ((buffer: Buffer) => void)[] = [];
  private made = 0;

  constructor(
    readonly bufferBytes: number,
    private readonly limit: number,
  ) {}

  async acquire(): Promise<Buffer> {
    const free = this.free.pop();
    if (free) return free;
    if (this.made < this.limit) {
      this.made++;
      return Buffer.allocUnsafeSlow(this.bufferBytes);
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** A buffer for work that can wait: only while half of them are free, so that nobody who holds some ahead of their time keeps others from going on. */
  acquireSpare(): Buffer | undefined {
    if (this.waiting.length > 0 || this.made - this.free.length >= this.limit / 2) return undefined;
    const free = this.free.pop();
    if (free) return free;
    this.made++;
    return Buffer.allocUnsafeSlow(this.bufferBytes);
  }

  release(buffer: Buffer): void {
    const next = this.waiting.shift();
    if (next) next(buffer);
    else this.free.push(buffer);
  }
}
