const pieces = 16;

/**
 * A time that is over at some point, counted in pieces: a machine that stood still for longer than all of it has lost one of them, so that what came
 * meanwhile is read before a peer is said to be silent.
 */
export class TimeLimit {
  private left = pieces;
  private readonly timer: NodeJS.Timeout;

  constructor(
    limitMs: number,
    private readonly over: () => void,
  ) {
    this.timer = setInterval(() => {
      this.left -= 1;
      if (!this.isOver) return;
      this.clear();
      this.over();
    }, limitMs / pieces);
  }

  get isOver(): boolean {
    return this.left === 0;
  }

  /** It is not waited for any more. */
  clear(): void {
    clearInterval(this.timer);
  }
}
