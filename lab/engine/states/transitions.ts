/**
 * The one way a state changes in the simulated engine: by a table that says which states may follow which.
 * Each machine (backups, transfers, snapshots, disks, virtual machines) exports its table next to the code that imports it.
 */

/** For each state the states that may follow it. A state with an empty list is final. */
export type TransitionTable<State extends string> = Readonly<Record<State, readonly State[]>>;

/** The new state, or a thrown defect of the simulator when the table does not know the step. */
export function follow<State extends string>(machine: string, table: TransitionTable<State>, from: State, to: State): State {
  if (!table[from].includes(to)) throw new Error(`${machine}: no transition from ${from} to ${to}`);
  return to;
}
