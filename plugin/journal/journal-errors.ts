import { defineErrors } from '../../common/errors/define-errors';

export const JournalErrors = defineErrors({
  JOURNAL_WRITE_FAILED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { problem: string }) =>
      `The plug-in cannot write its journal (${m.problem}), so it creates nothing in the engine. Free space in its data folder, or mend the permissions.`,
  },
});
