import { carriedNames, mergePlan, requireMergeable, type VolumeStore } from './volumes';
import type { DiskChain, VolumeId } from './driver';
import { cancelJob, waitForJob } from './jobs';
import type { VirtualMachine } from './virtual-machine';
import { type DiskState, type LayerState, formatOptions, layerState, leafOf, storageNode, storageOptions } from './vm-layout';

/**
 * Snapshots and merges of a running VM's disks, with checkpoint bitmaps kept as vdsm and libvirt keep them: a new layer has an empty
 * recording bitmap of each name; a merge adds the bits of the upper layer to the lower one's.
 *
 * While a commit copies, the lower layer's bitmaps already record what it writes, which is exactly what the upper layer's
 * hold; names that only the upper layer has are made and merged in one transaction when all is copied, just before the pivot. Guest
 * writes after that go through both layers, so nothing is missed.
 */
const mergeJob = (target: string): string => `merge-${target}`;

export async function createLiveSnapshot(
  vm: VirtualMachine,
  volumes: VolumeStore,
  disks: readonly { disk: DiskChain; newLeaf: VolumeId; addBitmap?: string }[],
): Promise<void> {
  const prepared: { disk: DiskState; layer: LayerState }[] = [];
  try {
    for (const request of disks) {
      const disk = vm.disk(request.disk.diskId);
      const leaf = leafOf(disk);
      // Done before the lab died, which then could not tell its caller.
      if (leaf.volume.volumeId === request.newLeaf.volumeId) continue;
      const bitmaps = carriedNames(await vm.layerBitmaps(disk), request.addBitmap);
      await volumes.createLayer(request.newLeaf, { ...leaf.volume, format: leaf.format }, request.disk.virtualSizeBytes, bitmaps);
      const layer = layerState(disk.target, request.newLeaf, 'cow', vm.paths.volume(request.newLeaf));
      prepared.push({ disk, layer });
      await vm.monitor.execute('blockdev-add', storageOptions(layer));
      // Without a backing file: blockdev-snapshot attaches it.
      await vm.monitor.execute('blockdev-add', formatOptions(layer, false, null));
    }
    await vm.transaction(
      prepared.map(({ disk, layer }) => ({ type: 'blockdev-snapshot', data: { node: leafOf(disk).node, overlay: layer.node } })),
    );
  } catch (error) {
    for (const { layer } of prepared) {
      await vm.deleteNodes([layer.node, storageNode(layer.node)]);
      await volumes.delete(layer.volume);
    }
    throw error;
  }
  for (const { disk, layer } of prepared) vm.updateDisk(disk.diskId, { layers: [...disk.layers, layer] });
}

export async function mergeLiveVolume(vm: VirtualMachine, volumes: VolumeStore, chain: DiskChain, top: VolumeId): Promise<void> {
  const disk = vm.disk(chain.diskId);
  const position = chain.chain.findIndex(({ volumeId }) => volumeId === top.volumeId);
  const hasLayer = (volumeId: string | undefined): boolean => disk.layers.some((layer) => layer.volume.volumeId === volumeId);
  // Done before the lab died, which then could not tell its caller.
  if (!hasLayer(top.volumeId) && hasLayer(chain.chain[position - 1]?.volumeId)) return;
  const index = requireMergeable(vm.chainOf(disk, chain.virtualSizeBytes), top);
  const topLayer = disk.layers[index]!;
  const base = disk.layers[index - 1]!;
  const active = index === disk.layers.length - 1;
  const job = mergeJob(disk.target);
  await vm.monitor.execute('block-commit', {
    'job-id': job,
    device: leafOf(disk).node,
    'base-node': base.node,
    'auto-dismiss': false,
    'auto-finalize': false,
    ...(active ? {} : { 'top-node': topLayer.node, 'backing-file': volumes.backingName(disk.layers[index + 1]!.volume, base.volume) }),
  });
  try {
    // The commit of the leaf becomes ready and goes on mirroring; one in the middle is pending when all is copied.
    await waitForJob(vm.monitor, job, active ? 'ready' : 'pending', 600_000);
    await mergeBitmaps(vm, topLayer, base);
    if (active) {
      await vm.monitor.execute('job-complete', { id: job });
      await waitForJob(vm.monitor, job, 'pending', 60_000);
    }
    await vm.monitor.execute('job-finalize', { id: job });
    await waitForJob(vm.monitor, job, 'concluded', 60_000);
  } catch (error) {
    await cancelJob(vm.monitor, job);
    throw error;
  }
  // The parent has taken its place: whatever happens to qemu from here on, the merge has been done and is not told as failed.
  vm.updateDisk(disk.diskId, { layers: disk.layers.filter((layer) => layer !== topLayer) });
  try {
    await vm.monitor.execute('job-dismiss', { id: job });
    await vm.deleteNodes([topLayer.node, storageNode(topLayer.node)]);
  } catch (error) {
    if (!vm.monitor.closed) throw error;
  }
}

async function mergeBitmaps(vm: VirtualMachine, top: LayerState, base: LayerState): Promise<void> {
  if (base.format === 'raw') return; // raw files hold no bitmaps: the disk has lost its checkpoints
  const nodes = await vm.nodes();
  const plan = mergePlan(nodes.get(top.node)?.bitmaps ?? [], nodes.get(base.node)?.bitmaps ?? []);
  for (const name of plan.drop) await vm.monitor.execute('block-dirty-bitmap-remove', { node: base.node, name });
  await vm.transaction(
    plan.merge.flatMap((name) => [
      ...(plan.missing.has(name) ? [{ type: 'block-dirty-bitmap-add', data: { node: base.node, name, persistent: true } }] : []),
      { type: 'block-dirty-bitmap-merge', data: { node: base.node, target: name, bitmaps: [{ node: top.node, name }] } },
    ]),
  );
}

/**
 * After the lab died: what it believed of the layers may be one step behind. Ends merge jobs (a chain with a half-merged layer is still a
 * right chain) and reads the layers from qemu itself.
 */
export async function reconcileLayers(vm: VirtualMachine, volumeOfFile: (file: string) => VolumeId | undefined): Promise<void> {
  const devices = await vm.monitor.execute<{ qdev?: string; inserted?: { 'node-name': string } }[]>('query-block');
  for (const disk of vm.state.disks) await cancelJob(vm.monitor, mergeJob(disk.target));
  const backing = await backingNodes(vm);
  const nodes = await vm.nodes();
  for (const disk of vm.state.disks) {
    const device = devices.find(({ qdev }) => qdev === disk.backendPath || qdev === disk.deviceId);
    const layers: LayerState[] = [];
    for (let name = device?.inserted?.['node-name']; name !== undefined; name = backing.get(name)) {
      // The format node's own file name is a description of the whole chain; the storage node's is the plain path.
      const file = nodes.get(storageNode(name))?.fileName;
      const volume = file === undefined ? undefined : volumeOfFile(file);
      if (volume !== undefined) layers.unshift(layerState(disk.target, volume, nodes.get(name)?.driver === 'raw' ? 'raw' : 'cow', file!));
    }
    if (layers.length === 0 || layers.map((layer) => layer.node).join() === disk.layers.map((layer) => layer.node).join()) continue;
    vm.updateDisk(disk.diskId, { layers });
  }
  const used = new Set(vm.state.disks.flatMap((disk) => disk.layers.flatMap((layer) => [layer.node, storageNode(layer.node)])));
  const left = [...nodes.keys()].filter((name) => /^vd[a-z]+-[0-9a-f]{12}(-s)?$/.test(name) && !used.has(name));
  await vm.deleteNodes(left.sort()); // a format node sorts before its storage node
}

/** Format node → the format node below it. */
async function backingNodes(vm: VirtualMachine): Promise<Map<string, string>> {
  interface Graph {
    nodes: { id: number; name: string }[];
    edges: { parent: number; child: number; name: string }[];
  }
  const graph = await vm.monitor.execute<Graph>('x-debug-query-block-graph');
  const names = new Map(graph.nodes.map(({ id, name }) => [id, name]));
  return new Map(
    graph.edges.filter(({ name }) => name === 'backing').map(({ parent, child }) => [names.get(parent) ?? '', names.get(child) ?? '']),
  );
}
