/** Asks the image service what of an image is zero: its list of extents, no data. Dialect: https://ovirt.github.io/ovirt-imageio/images.html */
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { ExtentsParser } from '../../common/extents/extents-parser';
import { problemOf, reachImage } from './reach';
import type { ImageAddresses } from './reach';
import { ZeroRanges } from './zero-ranges';
import type { ByteRange } from './zero-ranges';

/** `problem` is for people; `away` when no way to the service was found, and another image would fare no better. */
export type ImageZeroRanges =
  { readonly ranges: readonly ByteRange[]; readonly sizeBytes: number } | { readonly problem: string; readonly away: boolean };

/** All connections are closed when it settles. Rejects with CANCELLED only. */
export type ReadZeroRanges = (addresses: ImageAddresses, signal: AbortSignal) => Promise<ImageZeroRanges>;

/** The disk can be read without: nobody should wait long for a firewall. The list of 8 TiB takes minutes before its first byte. */
const timeouts = { connectMs: 5_000, answerMs: 10 * 60_000 };
const what = 'the list of what a disk holds';

export const readZeroRanges: ReadZeroRanges = async (addresses, signal) => {
  const reached = await reachImage(addresses, timeouts, what, signal);
  if ('problem' in reached) return { problem: reached.problem, away: true };
  const { client, path } = reached.way;
  try {
    const { statusCode, body } = await client.request({ method: 'GET', path: `${path}/extents?context=zero`, signal });
    if (statusCode !== 200) {
      await body.dump();
      return { problem: `the image service answers ${statusCode}`, away: false };
    }
    const zero = new ZeroRanges();
    const parser = new ExtentsParser((start, length, isZero) => zero.add(start, length, isZero));
    for await (const part of body) parser.push(part as Buffer);
    parser.end();
    return { ranges: zero.finish(), sizeBytes: parser.endBytes };
  } catch (error) {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what }, { cause: error });
    return { problem: isTidemarkError(error) ? error.message : problemOf(error), away: false };
  } finally {
    await client.destroy();
  }
};
