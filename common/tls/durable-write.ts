import fs from 'node:fs';
import path from 'node:path';

/**
 * Writes a small file so that after a crash either the old or the new content is there, whole: temporary file, fsync, rename, fsync of the
 * folder. Makes the folder when it is missing.
 */
export function durableWrite(file: string, content: string | Uint8Array, mode = 0o600): void {
  const folder = path.dirname(file);
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.tmp`;
  const descriptor = fs.openSync(temporary, 'w', mode);
  try {
    fs.writeFileSync(descriptor, content);
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
  fs.renameSync(temporary, file);
  const directory = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(directory);
  } finally {
    fs.closeSync(directory);
  }
}
