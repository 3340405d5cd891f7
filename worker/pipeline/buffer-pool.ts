/**
 * Page-aligned buffers that are used again by the next task of the thread: block buffers are megabytes, live outside the heap, and each fresh one
 * costs page faults and a share of a full garbage collection. One pool per thread.
 */

// The types of WebAssembly are in the DOM library only; this is the part that is used.
declare const WebAssembly: { readonly Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer } };

const wasmPageBytes = 65536;
const mostKeptBytes = 64 * 1024 * 1024;

const kept: Buffer[] = [];
let keptBytes = 0;

/** A buffer of exactly `bytes`; its content is whatever it was. Direct I/O needs the alignment, which only WebAssembly memory has. */
export function takeBuffer(bytes: number): Buffer {
  const index = kept.findIndex((buffer) => buffer.length === bytes);
  if (index >= 0) {
    keptBytes -= bytes;
    return kept.splice(index, 1)[0] as Buffer;
  }
  return Buffer.from(new WebAssembly.Memory({ initial: Math.ceil(bytes / wasmPageBytes) }).buffer, 0, bytes);
}

/** Only for buffers that nothing reads or writes any more: no socket, no file, no thread. */
export function giveBack(buffers: readonly Buffer[]): void {
  for (const buffer of buffers) {
    if (keptBytes + buffer.length > mostKeptBytes) return;
    keptBytes += buffer.length;
    kept.push(buffer);
  }
}
