import { execFile } from 'node:child_process';
import { HostError, type VolumeFormat } from './driver';

/**
 * The qemu-img calls of the lab. Everything here is about files that no running qemu writes to; live disks go through QMP.
 * Bitmap flags as `qemu-img info` prints them: "auto" is recording, "in-use" on a file that nobody has open is inconsistent.
 */
export interface FileBitmap {
  readonly name: string;
  readonly recording: boolean;
  readonly consistent: boolean;
}

export interface ImageInfo {
  readonly format: string;
  readonly virtualSizeBytes: number;
  readonly backingFile: string | undefined;
  readonly dataFile: string | undefined;
  readonly bitmaps: readonly FileBitmap[];
}

export const qemuFormat = (format: VolumeFormat): 'raw' | 'qcow2' => (format === 'cow' ? 'qcow2' : 'raw');

/** Runs a host program to its end; standard output is the result. */
export async function runTool(program: string, args: readonly string[], timeoutMs = 600_000): Promise<string> {
  return await new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 }, (cause, stdout, stderr) => {
      if (cause === null) resolve(stdout);
      else reject(new HostError(codeOf(stderr), `${program} ${args[0] ?? ''} failed: ${stderr.trim() || cause.message}`, { cause }));
    });
  });
}

function codeOf(stderr: string): HostError['code'] {
  if (/No space left on device/.test(stderr)) return 'NO_SPACE';
  if (/Failed to get .*lock/.test(stderr)) return 'VM_RUNNING';
  if (/No such file or directory/.test(stderr)) return 'NOT_FOUND';
  return 'QEMU_REFUSED';
}

/** `-U`: also of a file that is in use; bitmaps then show in-use, which says nothing. */
export async function imageInfo(file: string): Promise<ImageInfo> {
  const raw = JSON.parse(await runTool('qemu-img', ['info', '-U', '--output=json', file])) as Record<string, unknown>;
  const specific = (raw['format-specific'] as { data?: Record<string, unknown> } | undefined)?.data ?? {};
  const bitmaps = (specific['bitmaps'] ?? []) as { name: string; flags: string[] }[];
  return {
    format: String(raw['format']),
    virtualSizeBytes: Number(raw['virtual-size']),
    backingFile: raw['backing-filename'] as string | undefined,
    dataFile: specific['data-file'] as string | undefined,
    bitmaps: bitmaps.map(({ name, flags }) => ({ name, recording: flags.includes('auto'), consistent: !flags.includes('in-use') })),
  };
}

export interface CreateImage {
  readonly file: string;
  readonly format: VolumeFormat;
  readonly virtualSizeBytes: number;
  readonly preallocated?: boolean;
  /** Written into the header as it stands; relative ones count from the new file's directory. */
  readonly backing?: { readonly file: string; readonly format: VolumeFormat };
}

export async function createImage(image: CreateImage): Promise<void> {
  const backing = image.backing === undefined ? [] : ['-b', image.backing.file, '-F', qemuFormat(image.backing.format)];
  const options = image.preallocated === true ? ['-o', 'preallocation=falloc'] : [];
  await runTool('qemu-img', [
    'create',
    '-q',
    '-f',
    qemuFormat(image.format),
    ...options,
    ...backing,
    image.file,
    String(image.virtualSizeBytes),
  ]);
}

export async function addBitmap(file: string, name: string, enabled = true): Promise<void> {
  await runTool('qemu-img', ['bitmap', '--add', enabled ? '--enable' : '--disable', '-f', 'qcow2', file, name]);
}

export async function removeBitmap(file: string, name: string): Promise<void> {
  await runTool('qemu-img', ['bitmap', '--remove', '-f', 'qcow2', file, name]);
}

export async function enableBitmap(file: string, name: string): Promise<void> {
  await runTool('qemu-img', ['bitmap', '--enable', '-f', 'qcow2', file, name]);
}

/** Adds the bits of `name` in `source` to those of `name` in `target`; both exist. */
export async function mergeBitmap(source: string, target: string, name: string): Promise<void> {
  await runTool('qemu-img', ['bitmap', '--merge', name, '-b', source, '-F', 'qcow2', '-f', 'qcow2', target, name]);
}
