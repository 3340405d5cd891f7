import fs from 'node:fs/promises';
import path from 'node:path';

/**
 * Makes a folder, readable by us only, and its missing parents; fine when it is there. Throws what the file system says, ENOTDIR for a file.
 * Not `mkdir` with `recursive`: that never returns, and keeps a processor busy, where a parent exists and yet answers ENOENT (procfs, autofs).
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await makeOne(folder);
  } catch (error) {
    const parent = path.dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === folder) throw error;
    await makeFolder(parent);
    await makeOne(folder);
  }
}

/** The same for one folder whose parent exists; true when it was missing. */
export async function makeOne(folder: string): Promise<boolean> {
  try {
    await fs.mkdir(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if ((await fs.stat(folder)).isDirectory()) return false;
    throw Object.assign(error as NodeJS.ErrnoException, { code: 'ENOTDIR' });
  }
}
