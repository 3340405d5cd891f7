/** How long file calls that are under way may still take, in looks: a process that was stopped in between could not see them end. */
const looks = 60;
const lookEveryMs = 50;

/**
 * Ends the process with an exit code, now. A call on a file system that does not answer (a share whose server is away, mounted `hard`) holds a thread that
 * exit(3) would wait for without end: then the process is cut off by SIGKILL, which such calls give way to, and says so on standard error.
 */
export function leaveWith(code: number): void {
  if (!isCalling()) return process.exit(code);
  let left = looks;
  setInterval(() => {
    if (!isCalling()) process.exit(code);
    left -= 1;
    if (left > 0) return;
    process.stderr.write('tidemark: a file system does not answer (is the server of a share away?); the process is cut off\n');
    process.kill(process.pid, 'SIGKILL');
  }, lookEveryMs);
}

function isCalling(): boolean {
  return process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq'));
}
