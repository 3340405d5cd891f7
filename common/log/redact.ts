/**
 * Redaction by type and by name, before anything is written. Secrets, tickets, tokens, OVF and cloud-init bodies never reach a log
 * (architecture, invariant 10); test/secrets plants some and looks for them.
 */
export const redacted = '[redacted]';

/** A value that must not be printed; serialises as the redaction mark wherever it ends up. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself; call it at the last moment. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return redacted;
  }

  toJSON(): string {
    return redacted;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return redacted;
  }
}

const secretName =
  /pass(word|phrase)|secret|token|ticket$|authorization|cookie|private_?key|digest_?key|recovery_?key|transfer_?url|proxy_?url|^ovf$|user_?data|custom_?script|cloud_?init|^configuration$/i;

const secretText: readonly [RegExp, string][] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, redacted],
  [/\btmk1\.[\w-]+\.[\w-]+/g, redacted],
  [/(\/images\/)[0-9a-zA-Z-]{8,}/g, `$1${redacted}`],
  [/(bearer\s+)[\w.~+/=-]+/gi, `$1${redacted}`],
  [/([?&](?:password|token)=)[^&\s]+/gi, `$1${redacted}`],
  [/(<ovf:Envelope)[\s\S]*/g, redacted],
];

/** Secrets inside a text, by shape. */
export function redactText(text: string): string {
  let clean = text;
  for (const [pattern, replacement] of secretText) clean = clean.replace(pattern, replacement);
  return clean;
}

/** A copy without secrets: fields with secret names, texts with secret shapes. Depth is bounded; cycles end there. */
export function redactValue(value: unknown, depth = 6): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof Secret) return redacted;
  if (depth === 0) return '[deep]';
  if (value instanceof Error) {
    const { name, message, stack, cause } = value;
    const extra = redactValue({ ...value }, depth - 1) as object;
    return {
      ...extra,
      name,
      message: redactText(message),
      ...(stack === undefined ? {} : { stack: redactText(stack) }),
      ...(cause === undefined ? {} : { cause: redactValue(cause, depth - 1) }),
    };
  }
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => redactValue(item, depth - 1));
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return value.toISOString();
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      secretName.test(key) && item !== undefined && item !== '' ? redacted : redactValue(item, depth - 1),
    ]),
  );
}
