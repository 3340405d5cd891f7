/**
 * An address of loopback that this process alone listens on, while tests run side by side: a port of it that is left for a restart is not given to anybody
 * else meanwhile, as a free one of 127.0.0.1 is. IPv4, by the process's id (22 bits at most); Linux has all of 127.0.0.0/8.
 */
export const ownLoopback = [127, 64 + ((process.pid >> 16) & 63), (process.pid >> 8) & 255, process.pid & 255].join('.');
