import type { Severity } from '../operations/events';
import type { OperationScope } from '../operations/operation';

/** The notes of one run, told once each, and what they make of its outcome. */
export class RunNotes {
  readonly #told = new Set<string>();
  #warned = false;
  #incomplete = false;

  constructor(private readonly scope: OperationScope) {}

  tell(code: string, severity: Severity, message: string, diskId = ''): void {
    const key = `${code}/${diskId}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    if (severity !== 'info') this.#warned = true;
    this.scope.note({ code, severity, message, diskId });
  }

  /** Part of the VM is not in the copy. */
  incomplete(): void {
    this.#incomplete = true;
  }

  get outcome(): 'success' | 'warning' | 'partial' {
    if (this.#incomplete) return 'partial';
    return this.#warned ? 'warning' : 'success';
  }
}
