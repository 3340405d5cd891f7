/** The descriptions that prove what is ours (product defaults §9). They are journalled and compared exactly. */
const longest = 1024;

/** Description of engine backups, and so of their checkpoints. */
export function backupMark(jobName: string, sessionId: string): string {
  const tail = ` session=${sessionId}`;
  return `${jobPrefix(jobName)
    .trimEnd()
    .slice(0, longest - tail.length)}${tail}`;
}

/** Description of a snapshot that we take ourselves; one per operation, so that a lost answer can be made good by it. */
export function snapshotMark(sessionId: string, operationId: string, jobName: string): string {
  return `tidemark ${sessionId} operation=${operationId} ${jobPrefix(jobName).slice('tidemark '.length)}`.trimEnd().slice(0, longest);
}

/** What the marks of one job begin with. */
export function jobPrefix(jobName: string): string {
  // Control characters and surplus blanks would not survive the engine's form.
  return `tidemark job=${jobName
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/\p{Cc}/gu, '')
    .trim()} `;
}

/** Description of VMs and disks that a restore makes. */
export function restoreMark(sessionId: string, operationId: string): string {
  return `tidemark restore session=${sessionId} operation=${operationId}`;
}
