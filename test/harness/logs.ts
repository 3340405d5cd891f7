/** What the processes of a test warned of last, for the message of a test that fails. */
import fs from 'node:fs';
import path from 'node:path';

const sources = new Set<string>();
const linesPerFile = 6;
const lineLength = 400;

/** A log file, or a folder of them, of which a failing test tells the end. */
export function tellLogs(fileOrFolder: string): void {
  sources.add(fileOrFolder);
}

/** The last warnings and errors of all logs told, a line each; empty when there are none. */
export function lastWarnings(): string {
  const lines: string[] = [];
  for (const file of [...sources].flatMap(filesOf)) {
    const warnings = fs
      .readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => /"level":"(warn|error)"/.test(line));
    for (const line of warnings.slice(-linesPerFile)) lines.push(`  ${path.basename(file)}: ${line.slice(0, lineLength)}`);
  }
  return lines.length === 0 ? '' : `\nlast warnings:\n${lines.join('\n')}`;
}

function filesOf(fileOrFolder: string): string[] {
  // What a test removed on its way has nothing to tell.
  const stats = fs.statSync(fileOrFolder, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return stats ? [fileOrFolder] : [];
  return fs
    .readdirSync(fileOrFolder)
    .filter((name) => name.endsWith('.log'))
    .map((name) => path.join(fileOrFolder, name));
}
