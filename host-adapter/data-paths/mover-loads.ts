/** Which mover carries each running task. A server that starts again learns it from the tasks that it adopts. */
export class MoverLoads {
  readonly #movers = new Map<string, string>();

  hold(taskId: string, moverId: string): void {
    this.#movers.set(taskId, moverId);
  }

  release(taskId: string): void {
    this.#movers.delete(taskId);
  }

  /** Open sessions of a mover. */
  of(moverId: string): number {
    let count = 0;
    for (const one of this.#movers.values()) if (one === moverId) count += 1;
    return count;
  }
}
