/**
 * The clock that leases and time limits run by (`performance.now`), in the hands of a test: it stands still but for what is let pass, however long the
 * machine takes. Timers go on as they do.
 */
export class StoppedClock implements Disposable {
  private nowMs = performance.now();
  private readonly run = performance.now.bind(performance);

  constructor() {
    performance.now = () => this.nowMs;
  }

  pass(milliseconds: number): void {
    this.nowMs += milliseconds;
  }

  [Symbol.dispose](): void {
    performance.now = this.run;
  }
}
