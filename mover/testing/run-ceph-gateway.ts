/**
 * Runs a RADOS gateway with a bucket `backup` for tests of whole installations: `node run-ceph-gateway.js FOLDER READY_FILE`. Ends with SIGTERM. With SIGUSR2
 * the gateway is killed (SIGKILL) and started again over the same storage; the ready file is gone meanwhile, and counts the starts.
 */
import fs from 'node:fs';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { CephGateway } from './ceph-gateway';

async function main([folder, readyFile]: readonly string[]): Promise<void> {
  if (folder === undefined || readyFile === undefined) throw new Error('usage: run-ceph-gateway FOLDER READY_FILE');
  const gateway = await CephGateway.start(folder);
  process.once('SIGTERM', () => void gateway.stop().then(() => process.exit(0)));
  const { endpoint, region, accessKeyId, secretAccessKey } = gateway.access;
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
  await client.send(new CreateBucketCommand({ Bucket: 'backup' }));
  client.destroy();
  let starts = 0;
  const tellReady = () => {
    starts += 1;
    fs.writeFileSync(`${readyFile}.new`, JSON.stringify({ ...gateway.access, starts }));
    fs.renameSync(`${readyFile}.new`, readyFile);
  };
  process.on('SIGUSR2', () => {
    fs.rmSync(readyFile);
    void gateway
      .killGateway()
      .then(() => gateway.startGateway())
      .then(tellReady);
  });
  tellReady();
}

if (require.main === module) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  });
}
