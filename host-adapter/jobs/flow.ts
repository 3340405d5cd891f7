import type { TaskContext } from './task-context';
import type { FinalState } from './task-machine';
import type { TidemarkError } from '../../common/errors/tidemark-error';

/** How a try ended. A try that should perhaps be repeated throws its error instead. */
export interface FlowEnd {
  readonly state: FinalState;
  readonly failure?: TidemarkError | undefined;
}

/** What a task of one kind does, from nothing or from where a server that died had left it. */
export interface TaskFlow {
  /**
   * One try. When it throws, nothing of the try is left behind but what the plug-in's janitor owns, and the task's step is `waiting` again;
   * unless the server stops, then everything stays as it is.
   */
  attempt(context: TaskContext): Promise<FlowEnd>;
}
