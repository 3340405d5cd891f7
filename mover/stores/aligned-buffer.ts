// The types of WebAssembly are in the DOM library only; this is the part that is used.
declare const WebAssembly: { readonly Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer } };

const wasmPageBytes = 65536;

/**
 * Page-aligned memory, zeroed. `O_DIRECT` refuses an ordinary Buffer, whose memory is 16 bytes off a page; a WebAssembly memory is aligned.
 * Such memory lives outside the heap and is meant to be kept and reused.
 */
export function alignedBuffer(bytes: number): Buffer {
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / wasmPageBytes) });
  return Buffer.from(memory.buffer, 0, bytes);
}
