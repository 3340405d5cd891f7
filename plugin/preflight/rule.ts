import type { PreflightFinding } from './finding';
import type { VmPicture } from './picture';

/** A rule about a VM: a function of the picture alone. */
export type VmRule = (picture: VmPicture) => PreflightFinding | undefined;
