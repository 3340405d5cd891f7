/** Loaded before a program whose clock is to be ahead of ours, by CLOCK_AHEAD_MS: grace times of hours pass while it is started again. */
const aheadMs = Number(process.env['CLOCK_AHEAD_MS'] ?? '0');
const real = Date;
const now = () => real.now() + aheadMs;

globalThis.Date = new Proxy(real, {
  construct: (target, given: unknown[], made) => Reflect.construct(target, given.length === 0 ? [now()] : given, made) as Date,
  get: (target, name, receiver) => (name === 'now' ? now : (Reflect.get(target, name, receiver) as unknown)),
});
