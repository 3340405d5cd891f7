/**
 * The API's types: one table for JSON and XML, input and output.
 *
 * Per type: plural element name, whether it is an identified entity (which has `id`, `href`, `name`, `description`, `comment` too),
 * and its fields. Notation: `field` text, `field:int`, `field:bool`, `field:date`, `field:dec`, `field=a|b` enum, `field>type` object,
 * `fields*type` list whose elements are called after the type, `fields*element:type` list with another element name, `fields+element`
 * list of texts. `ref` is any entity of which the lab knows only id and href; `opaque` is passed on unchecked.
 *
 * Source: element names and kinds of the published oVirt API model 4.5, as its Python SDK (ovirt-engine-sdk-python 4.6) reads and writes them.
 */
export const typeTable = {
  action: [
    'actions',
    'identified',
    `
    activate:bool allow_partial_import:bool async:bool attach_wgt:bool attachment>disk_attachment authorized_key>ref
    auto_pinning_policy=adjust|disabled|existing bricks*brick:ref certificates*certificate:ref check_connectivity:bool clone:bool
    clone_permissions:bool cluster>cluster collapse_snapshots:bool commit_on_success:bool connection>storage_connection
    connectivity_timeout:int correlation_id data_center>data_center deploy_hosted_engine:bool details>ref directory
    discard_snapshots:bool discovered_targets*iscsi_details:opaque disk>disk disk_profile>disk_profile disks*disk exclusive:bool
    fault>fault fence_type filename filter:bool fix_layout:bool follow force:bool grace_period>opaque host>host image
    image_transfer>image_transfer import_as_template:bool is_attached:bool iscsi>opaque job>job lease>storage_domain_lease
    logical_units*logical_unit maintenance_after_restart:bool maintenance_enabled:bool migrate_vms_in_affinity_closure:bool
    modified_bonds*host_nic:ref modified_labels*network_label:ref modified_network_attachments*network_attachment:ref
    optimize_cpu_settings:bool option>opaque pause:bool permission>permission power_management>opaque proxy_ticket>opaque quota>quota
    reason reassign_bad_macs:bool reboot:bool registration_configuration>registration_configuration remote_viewer_connection_file
    removed_bonds*host_nic:ref removed_labels*network_label:ref removed_network_attachments*network_attachment:ref resolution_type
    restore_memory:bool root_password seal:bool snapshot>snapshot source_host>host ssh>ref status stop_gluster_service:bool
    storage_domain>storage_domain storage_domains*storage_domain succeeded:bool synchronized_network_attachments*network_attachment:ref
    template>template ticket>opaque timeout:int undeploy_hosted_engine:bool upgrade_action=finish|start|update_progress
    upgrade_percent_complete:int use_cloud_init:bool use_ignition:bool use_initialization:bool use_sysprep:bool
    virtual_functions_configuration>opaque vm>vm vnic_profile_mappings*vnic_profile_mapping:opaque volatile:bool
  `,
  ],
  affinity_group: [
    'affinity_groups',
    'identified',
    `
    broken:bool cluster>cluster enforcing:bool host_labels*affinity_label hosts*host hosts_rule>affinity_rule positive:bool priority:dec
    vm_labels*affinity_label vms*vm vms_rule>affinity_rule
  `,
  ],
  affinity_label: ['affinity_labels', 'identified', `has_implicit_affinity_group:bool hosts*host read_only:bool vms*vm`],
  affinity_rule: ['affinity_rules', 'plain', `enabled:bool enforcing:bool positive:bool`],
  api: [
    'apis',
    'plain',
    `
    authenticated_user>user effective_user>user engine_backup>engine_backup_info product_info>product_info
    special_objects>special_objects summary>api_summary time:date
  `,
  ],
  api_summary: [
    'api_summaries',
    'plain',
    `hosts>api_summary_item storage_domains>api_summary_item users>api_summary_item vms>api_summary_item`,
  ],
  api_summary_item: ['api_summary_items', 'plain', `active:int total:int`],
  application: ['applications', 'identified', `vm>vm`],
  backup: [
    'backups',
    'identified',
    `
    creation_date:date disks*disk from_checkpoint_id host>host modification_date:date
    phase=failed|finalizing|initializing|ready|starting|succeeded snapshot>snapshot to_checkpoint_id vm>vm
  `,
  ],
  bios: ['bioss', 'plain', `boot_menu>boot_menu type=cluster_default|i440fx_sea_bios|q35_ovmf|q35_sea_bios|q35_secure_boot`],
  boot: ['boots', 'plain', `devices+device`],
  boot_menu: ['boot_menus', 'plain', `enabled:bool`],
  cdrom: ['cdroms', 'identified', `file>file instance_type>instance_type template>template vm>vm vms*vm`],
  checkpoint: ['checkpoints', 'identified', `creation_date:date disks*disk parent_id state=created|invalid vm>vm`],
  cloud_init: [
    'cloud_inits',
    'plain',
    `
    authorized_keys*authorized_key:ref files*file host>host network_configuration>network_configuration regenerate_ssh_keys:bool
    timezone users*user
  `,
  ],
  cluster: [
    'clusters',
    'identified',
    `
    affinity_groups*affinity_group ballooning_enabled:bool
    bios_type=cluster_default|i440fx_sea_bios|q35_ovmf|q35_sea_bios|q35_secure_boot cpu>cpu cpu_profiles*cpu_profile
    custom_scheduling_policy_properties*property data_center>data_center display>display enabled_features*cluster_feature
    error_handling>opaque external_network_providers*external_provider:ref fencing_policy>opaque fips_mode=disabled|enabled|undefined
    firewall_type=firewalld|iptables gluster_hooks*gluster_hook:ref gluster_service:bool gluster_tuned_profile
    gluster_volumes*gluster_volume:ref ha_reservation:bool ksm>opaque log_max_memory_used_threshold:int
    log_max_memory_used_threshold_type=absolute_value_in_mb|percentage mac_pool>mac_pool maintenance_reason_required:bool
    management_network>network memory_policy>memory_policy migration>migration network_filters*network_filter networks*network
    optional_reason:bool permissions*permission scheduling_policy>ref serial_number>serial_number supported_versions*version
    switch_type=legacy|ovs threads_as_cores:bool trusted_service:bool tunnel_migration:bool upgrade_correlation_id
    upgrade_in_progress:bool upgrade_percent_complete:int version>version virt_service:bool vnc_encryption:bool
    required_rng_sources+required_rng_source
  `,
  ],
  cluster_feature: ['cluster_features', 'identified', `cluster_level>cluster_level`],
  cluster_level: ['cluster_levels', 'identified', `cluster_features*cluster_feature cpu_types*cpu_type permits*permit`],
  configuration: ['configurations', 'plain', `data type=ova|ovf`],
  console: ['consoles', 'plain', `enabled:bool`],
  core: ['cores', 'plain', `index:int socket:int`],
  cpu: [
    'cpus',
    'plain',
    `
    architecture=aarch64|loongarch64|ppc64|s390x|undefined|x86_64 cores*core cpu_tune>cpu_tune level:int
    mode=custom|host_model|host_passthrough name speed:dec topology>cpu_topology type
  `,
  ],
  cpu_profile: ['cpu_profiles', 'identified', `cluster>cluster permissions*permission qos>ref`],
  cpu_topology: ['cpu_topologies', 'plain', `cores:int sockets:int threads:int`],
  cpu_tune: ['cpu_tunes', 'plain', `vcpu_pins*vcpu_pin`],
  cpu_type: ['cpu_types', 'plain', `architecture=aarch64|loongarch64|ppc64|s390x|undefined|x86_64 level:int name`],
  custom_property: ['custom_properties', 'plain', `name regexp value`],
  data_center: [
    'data_centers',
    'identified',
    `
    clusters*cluster iscsi_bonds*iscsi_bond:ref local:bool mac_pool>mac_pool networks*network permissions*permission qoss*qos:ref
    quota_mode=audit|disabled|enabled quotas*quota status=contend|maintenance|not_operational|problematic|uninitialized|up
    storage_domains*storage_domain storage_format=v1|v2|v3|v4|v5 supported_versions*version version>version
  `,
  ],
  disk: [
    'disks',
    'identified',
    `
    active:bool actual_size:int alias backup=incremental|none backup_mode=full|incremental bootable:bool
    content_type=backup_scratch|data|hosted_engine|hosted_engine_configuration|hosted_engine_metadata|hosted_engine_sanlock|iso|memory_dump_volume|memory_metadata_volume|ovf_store
    disk_profile>disk_profile disk_snapshots*disk_snapshot external_disk format=cow|raw image_id initial_size:int
    instance_type>instance_type interface=ide|sata|spapr_vscsi|virtio|virtio_scsi logical_name lun_storage>host_storage
    openstack_volume_type>ref permissions*permission propagate_errors:bool provisioned_size:int qcow_version=qcow2_v2|qcow2_v3
    quota>quota read_only:bool sgio=disabled|filtered|unfiltered shareable:bool snapshot>snapshot sparse:bool statistics*statistic
    status=illegal|locked|ok storage_domain>storage_domain storage_domains*storage_domain
    storage_type=cinder|image|lun|managed_block_storage template>template total_size:int uses_scsi_reservation:bool vm>vm vms*vm
    wipe_after_delete:bool
  `,
  ],
  disk_attachment: [
    'disk_attachments',
    'identified',
    `
    active:bool bootable:bool disk>disk interface=ide|sata|spapr_vscsi|virtio|virtio_scsi logical_name pass_discard:bool read_only:bool
    template>template uses_scsi_reservation:bool vm>vm
  `,
  ],
  disk_profile: ['disk_profiles', 'identified', `permissions*permission qos>ref storage_domain>storage_domain`],
  disk_snapshot: [
    'disk_snapshots',
    'identified',
    `
    active:bool actual_size:int alias backup=incremental|none backup_mode=full|incremental bootable:bool
    content_type=backup_scratch|data|hosted_engine|hosted_engine_configuration|hosted_engine_metadata|hosted_engine_sanlock|iso|memory_dump_volume|memory_metadata_volume|ovf_store
    disk>disk disk_profile>disk_profile disk_snapshots*disk_snapshot external_disk format=cow|raw image_id initial_size:int
    instance_type>instance_type interface=ide|sata|spapr_vscsi|virtio|virtio_scsi logical_name lun_storage>host_storage
    openstack_volume_type>ref parent>disk_snapshot permissions*permission propagate_errors:bool provisioned_size:int
    qcow_version=qcow2_v2|qcow2_v3 quota>quota read_only:bool sgio=disabled|filtered|unfiltered shareable:bool snapshot>snapshot
    sparse:bool statistics*statistic status=illegal|locked|ok storage_domain>storage_domain storage_domains*storage_domain
    storage_type=cinder|image|lun|managed_block_storage template>template total_size:int uses_scsi_reservation:bool vm>vm vms*vm
    wipe_after_delete:bool
  `,
  ],
  display: [
    'displays',
    'plain',
    `
    address allow_override:bool certificate>ref copy_paste_enabled:bool disconnect_action disconnect_action_delay:int
    file_transfer_enabled:bool keyboard_layout monitors:int port:int proxy secure_port:int single_qxl_pci:bool smartcard_enabled:bool
    type=spice|vnc video_type=bochs|cirrus|qxl|vga
  `,
  ],
  dns: ['dnss', 'plain', `search_domains*host servers*host`],
  dns_resolver_configuration: ['dns_resolver_configurations', 'plain', `name_servers+name_server`],
  domain: ['domains', 'identified', `groups*group user>user users*user`],
  engine_backup_info: [
    'engine_backup_infos',
    'plain',
    `
    last_cinder_backup:date last_db_backup:date last_dwh_backup:date last_engine_backup:date last_grafana_backup:date
    last_keycloak_backup:date
  `,
  ],
  event: [
    'events',
    'identified',
    `
    cluster>cluster code:int correlation_id custom_data custom_id:int data_center>data_center flood_rate:int host>host index:int
    log_on_host:bool origin severity=alert|error|normal|warning storage_domain>storage_domain template>template time:date user>user
    vm>vm
  `,
  ],
  external_host_provider: [
    'external_host_providers',
    'identified',
    `
    authentication_url certificates*certificate:ref compute_resources*external_compute_resource:ref
    discovered_hosts*external_discovered_host:ref host_groups*external_host_group:ref hosts*host password properties*property
    requires_authentication:bool url username
  `,
  ],
  fault: ['faults', 'plain', `detail reason`],
  file: ['files', 'identified', `content storage_domain>storage_domain type`],
  filter: ['filters', 'identified', `position:int scheduling_policy_unit>ref`],
  floppy: ['floppies', 'identified', `file>file instance_type>instance_type template>template vm>vm vms*vm`],
  graphics_console: [
    'graphics_consoles',
    'identified',
    `address instance_type>instance_type port:int protocol=spice|vnc template>template tls_port:int vm>vm`,
  ],
  group: ['groups', 'identified', `domain>domain domain_entry_id namespace permissions*permission roles*role tags*tag`],
  guest_operating_system: ['guest_operating_systems', 'plain', `architecture codename distribution family kernel>kernel version>version`],
  hardware_information: [
    'hardware_informations',
    'plain',
    `
    family manufacturer product_name serial_number uuid version supported_rng_sources+supported_rng_source
  `,
  ],
  high_availability: ['high_availabilities', 'plain', `enabled:bool priority:int`],
  host: [
    'hosts',
    'identified',
    `
    address affinity_labels*affinity_label agents*agent:ref auto_numa_status=disable|enable|unknown certificate>ref cluster>cluster
    cpu>cpu cpu_units*host_cpu_unit:ref device_passthrough>opaque devices*host_device display>display
    external_host_provider>external_host_provider external_network_provider_configurations*external_network_provider_configuration:ref
    external_status=error|failure|info|ok|warning hardware_information>hardware_information hooks*hook:ref
    host_numa_nodes*host_numa_node:ref hosted_engine>opaque iscsi>opaque katello_errata*katello_erratum:ref
    kdump_status=disabled|enabled|unknown ksm>opaque libvirt_version>version max_scheduling_memory:int memory:int
    network_attachments*network_attachment:ref network_operation_in_progress:bool nics*host_nic:ref numa_supported:bool os>os
    override_iptables:bool ovn_configured:bool permissions*permission port:int power_management>opaque protocol=stomp|xml
    reinstallation_required:bool root_password se_linux>se_linux spm>spm ssh>ref statistics*statistic
    status=connecting|down|error|initializing|install_failed|installing|installing_os|kdumping|maintenance|non_operational|non_responsive|pending_approval|preparing_for_maintenance|reboot|unassigned|up
    status_detail storage_connection_extensions*storage_connection_extension storages*host_storage summary>vm_summary tags*tag
    transparent_hugepages>transparent_hugepages type=ovirt_node|rhel|rhev_h unmanaged_networks*unmanaged_network:ref
    update_available:bool version>version vgpu_placement=consolidated|separated
  `,
  ],
  host_device: [
    'host_devices',
    'identified',
    `
    capability driver host>host iommu_group:int m_dev_types*m_dev_type parent_device>host_device physical_function>host_device
    placeholder:bool product>product vendor>vendor virtual_functions:int vm>vm
  `,
  ],
  host_storage: [
    'host_storages',
    'identified',
    `
    address driver_options*property driver_sensitive_options*property host>host logical_units*logical_unit mount_options nfs_retrans:int
    nfs_timeo:int nfs_version=auto|v3|v4|v4_0|v4_1|v4_2 override_luns:bool password path port:int portal target
    type=cinder|fcp|glance|glusterfs|iscsi|localfs|managed_block_storage|nfs|posixfs username vfs_type volume_group>volume_group
  `,
  ],
  image: ['images', 'identified', `size:int storage_domain>storage_domain type=disk|floppy|iso`],
  image_transfer: [
    'image_transfers',
    'identified',
    `
    active:bool backup>backup direction=download|upload disk>disk format=cow|raw host>host image>image inactivity_timeout:int
    phase=cancelled|cancelled_system|cancelled_user|finalizing_cleanup|finalizing_failure|finalizing_success|finished_cleanup|finished_failure|finished_success|initializing|paused_system|paused_user|resuming|transferring|unknown
    proxy_url shallow:bool snapshot>disk_snapshot timeout_policy=cancel|legacy|pause transfer_url transferred:int
  `,
  ],
  initialization: [
    'initializations',
    'plain',
    `
    active_directory_ou authorized_ssh_keys cloud_init>cloud_init cloud_init_network_protocol=eni|openstack_metadata
    configuration>configuration custom_script dns_search dns_servers domain host_name input_locale nic_configurations*nic_configuration
    org_name regenerate_ids:bool regenerate_ssh_keys:bool root_password system_locale timezone ui_language user_locale user_name
    windows_license_key
  `,
  ],
  instance_type: [
    'instance_types',
    'identified',
    `
    auto_pinning_policy=adjust|disabled|existing bios>bios cdroms*cdrom cluster>cluster console>console cpu>cpu
    cpu_pinning_policy=dedicated|isolate_threads|manual|none|resize_and_pin_numa cpu_profile>cpu_profile cpu_shares:int
    creation_time:date custom_compatibility_version>version custom_cpu_model custom_emulated_machine custom_properties*custom_property
    delete_protected:bool disk_attachments*disk_attachment display>display domain>domain graphics_consoles*graphics_console
    high_availability>high_availability initialization>initialization io>io large_icon>ref lease>storage_domain_lease
    mediated_devices*vm_mediated_device:ref memory:int memory_policy>memory_policy migration>migration migration_downtime:int
    multi_queues_enabled:bool nics*nic origin os>os permissions*permission placement_policy>vm_placement_policy quota>quota
    rng_device>rng_device serial_number>serial_number small_icon>ref soundcard_enabled:bool sso>sso start_paused:bool stateless:bool
    status=illegal|locked|ok storage_domain>storage_domain storage_error_resume_behaviour=auto_resume|kill|leave_paused tags*tag
    time_zone>time_zone tpm_enabled:bool tunnel_migration:bool type=desktop|high_performance|server usb>usb version>template_version
    virtio_scsi>virtio_scsi virtio_scsi_multi_queues:int virtio_scsi_multi_queues_enabled:bool vm>vm watchdogs*watchdog
  `,
  ],
  io: ['ios', 'plain', `threads:int`],
  ip: ['ips', 'plain', `address gateway netmask version=v4|v6`],
  job: [
    'jobs',
    'identified',
    `
    auto_cleared:bool end_time:date external:bool last_updated:date owner>user start_time:date
    status=aborted|failed|finished|started|unknown steps*step
  `,
  ],
  kernel: ['kernels', 'plain', `version>version`],
  logical_unit: [
    'logical_units',
    'identified',
    `
    active_paths:int address discard_max_size:int discard_zeroes_data:bool disk_id lun_mapping:int password paths:int port:int portal
    product_id serial size:int status=free|unusable|used storage_domain_id target username vendor_id volume_group_id
  `,
  ],
  m_dev_type: ['m_dev_types', 'plain', `available_instances:int description human_readable_name name`],
  mac: ['macs', 'plain', `address`],
  mac_pool: ['mac_pools', 'identified', `allow_duplicates:bool default_pool:bool permissions*permission ranges*range`],
  memory_over_commit: ['memory_over_commits', 'plain', `percent:int`],
  memory_policy: [
    'memory_policies',
    'plain',
    `
    ballooning:bool guaranteed:int max:int over_commit>memory_over_commit transparent_hugepages>transparent_hugepages
  `,
  ],
  method: ['methods', 'identified', ``],
  migration: [
    'migration_optionss',
    'plain',
    `
    auto_converge=false|inherit|true bandwidth>opaque compressed=false|inherit|true custom_parallel_migrations:int
    encrypted=false|inherit|true parallel_migrations_policy=auto|auto_parallel|custom|disabled|inherit policy>migration_policy
  `,
  ],
  migration_policy: ['migration_policies', 'identified', ``],
  network: [
    'networks',
    'identified',
    `
    cluster>cluster data_center>data_center display:bool dns_resolver_configuration>dns_resolver_configuration external_provider>ref
    external_provider_physical_network>network ip>ip mtu:int network_labels*network_label:ref permissions*permission port_isolation:bool
    profile_required:bool qos>ref required:bool status=non_operational|operational stp:bool vdsm_name vlan>vlan
    vnic_profiles*vnic_profile usages+usage
  `,
  ],
  network_configuration: ['network_configurations', 'plain', `dns>dns nics*nic`],
  network_filter: ['network_filters', 'identified', `version>version`],
  network_filter_parameter: ['network_filter_parameters', 'identified', `nic>nic value`],
  nic: [
    'nics',
    'identified',
    `
    boot_protocol=autoconf|dhcp|none|poly_dhcp_autoconf|static instance_type>instance_type
    interface=e1000|e1000e|pci_passthrough|rtl8139|rtl8139_virtio|spapr_vlan|virtio linked:bool mac>mac network>network
    network_attachments*network_attachment:ref network_filter_parameters*network_filter_parameter network_labels*network_label:ref
    on_boot:bool plugged:bool reported_devices*reported_device statistics*statistic synced:bool template>template
    virtual_function_allowed_labels*network_label:ref virtual_function_allowed_networks*network vm>vm vms*vm vnic_profile>vnic_profile
  `,
  ],
  nic_configuration: [
    'nic_configurations',
    'plain',
    `
    boot_protocol=autoconf|dhcp|none|poly_dhcp_autoconf|static ip>ip ipv6>ip
    ipv6_boot_protocol=autoconf|dhcp|none|poly_dhcp_autoconf|static name on_boot:bool
  `,
  ],
  operating_system: [
    'operation_systems',
    'identified',
    `
    architecture=aarch64|loongarch64|ppc64|s390x|undefined|x86_64 large_icon>ref small_icon>ref
    tpm_support=required|supported|unsupported
  `,
  ],
  os: [
    'oss',
    'plain',
    `
    boot>boot cmdline custom_kernel_cmdline description initrd kernel reported_kernel_cmdline type version>version
  `,
  ],
  payload: ['payloads', 'plain', `files*file type=cdrom|floppy volume_id`],
  permission: [
    'permissions',
    'identified',
    `
    cluster>cluster data_center>data_center disk>disk group>group host>host role>role storage_domain>storage_domain template>template
    user>user vm>vm vm_pool>vm_pool
  `,
  ],
  permit: ['permits', 'identified', `administrative:bool role>role`],
  product: ['products', 'identified', ``],
  product_info: ['product_infos', 'plain', `instance_id name vendor version>version`],
  property: ['properties', 'plain', `name value`],
  quota: [
    'quotas',
    'identified',
    `
    cluster_hard_limit_pct:int cluster_soft_limit_pct:int data_center>data_center disks*disk permissions*permission
    quota_cluster_limits*quota_cluster_limit quota_storage_limits*quota_storage_limit storage_hard_limit_pct:int
    storage_soft_limit_pct:int users*user vms*vm
  `,
  ],
  quota_cluster_limit: [
    'quota_cluster_limits',
    'identified',
    `cluster>cluster memory_limit:dec memory_usage:dec quota>quota vcpu_limit:int vcpu_usage:int`,
  ],
  quota_storage_limit: ['quota_storage_limits', 'identified', `limit:int quota>quota storage_domain>storage_domain usage:dec`],
  range: ['ranges', 'plain', `from to`],
  registration_affinity_group_mapping: ['registration_affinity_group_mappings', 'plain', `from>affinity_group to>affinity_group`],
  registration_affinity_label_mapping: ['registration_affinity_label_mappings', 'plain', `from>affinity_label to>affinity_label`],
  registration_cluster_mapping: ['registration_cluster_mappings', 'plain', `from>cluster to>cluster`],
  registration_configuration: [
    'registration_configurations',
    'plain',
    `
    affinity_group_mappings*registration_affinity_group_mapping affinity_label_mappings*registration_affinity_label_mapping
    cluster_mappings*registration_cluster_mapping domain_mappings*registration_domain_mapping lun_mappings*registration_lun_mapping
    role_mappings*registration_role_mapping vnic_profile_mappings*registration_vnic_profile_mapping
  `,
  ],
  registration_domain_mapping: ['registration_domain_mappings', 'plain', `from>domain to>domain`],
  registration_lun_mapping: ['registration_lun_mappings', 'plain', `from>disk to>disk`],
  registration_role_mapping: ['registration_role_mappings', 'plain', `from>role to>role`],
  registration_vnic_profile_mapping: ['registration_vnic_profile_mappings', 'plain', `from>vnic_profile to>vnic_profile`],
  reported_device: ['reported_devices', 'identified', `ips*ip mac>mac type=network vm>vm`],
  rng_device: ['rng_devices', 'plain', `rate>opaque source=hwrng|random|urandom`],
  role: ['roles', 'identified', `administrative:bool mutable:bool permits*permit user>user`],
  se_linux: ['se_linuxs', 'plain', `mode=disabled|enforcing|permissive`],
  serial_number: ['serial_numbers', 'plain', `policy=custom|host|none|vm value`],
  session: ['sessions', 'identified', `console_user:bool ip>ip protocol user>user vm>vm`],
  snapshot: [
    'snapshots',
    'identified',
    `
    affinity_labels*affinity_label applications*application auto_pinning_policy=adjust|disabled|existing bios>bios cdroms*cdrom
    cluster>cluster console>console cpu>cpu cpu_pinning_policy=dedicated|isolate_threads|manual|none|resize_and_pin_numa
    cpu_profile>cpu_profile cpu_shares:int creation_time:date custom_compatibility_version>version custom_cpu_model
    custom_emulated_machine custom_properties*custom_property date:date delete_protected:bool disk_attachments*disk_attachment
    disks*disk display>display domain>domain dynamic_cpu>opaque external_host_provider>external_host_provider floppies*floppy fqdn
    graphics_consoles*graphics_console guest_operating_system>guest_operating_system guest_time_zone>time_zone has_illegal_images:bool
    high_availability>high_availability host>host host_devices*host_device host_numa_nodes*host_numa_node:ref
    initialization>initialization instance_type>instance_type io>io katello_errata*katello_erratum:ref large_icon>ref
    lease>storage_domain_lease mediated_devices*vm_mediated_device:ref memory:int memory_policy>memory_policy migration>migration
    migration_downtime:int multi_queues_enabled:bool next_run_configuration_exists:bool nics*nic
    numa_tune_mode=interleave|preferred|strict origin original_template>template os>os payloads*payload permissions*permission
    persist_memorystate:bool placement_policy>vm_placement_policy quota>quota reported_devices*reported_device rng_device>rng_device
    run_once:bool serial_number>serial_number sessions*session small_icon>ref snapshot_status=in_preview|locked|ok
    snapshot_type=active|preview|regular|stateless snapshots*snapshot soundcard_enabled:bool sso>sso start_paused:bool start_time:date
    stateless:bool statistics*statistic
    status=down|image_locked|migrating|not_responding|paused|powering_down|powering_up|reboot_in_progress|restoring_state|saving_state|suspended|unassigned|unknown|up|wait_for_launch
    status_detail stop_reason stop_time:date storage_domain>storage_domain storage_error_resume_behaviour=auto_resume|kill|leave_paused
    tags*tag template>template time_zone>time_zone tpm_enabled:bool tunnel_migration:bool type=desktop|high_performance|server usb>usb
    use_latest_template_version:bool virtio_scsi>virtio_scsi virtio_scsi_multi_queues:int virtio_scsi_multi_queues_enabled:bool vm>vm
    vm_pool>vm_pool watchdogs*watchdog
  `,
  ],
  special_objects: ['special_objectss', 'plain', `blank_template>template root_tag>tag`],
  spm: ['spms', 'plain', `priority:int status=contending|none|spm`],
  sso: ['ssos', 'plain', `methods*method`],
  statistic: [
    'statistics',
    'identified',
    `
    brick>ref disk>disk gluster_volume>ref host>host host_nic>ref host_numa_node>ref kind=counter|gauge nic>nic step>step
    type=decimal|integer|string unit=bits_per_second|bytes|bytes_per_second|count_per_second|none|percent|seconds values*value vm>vm
  `,
  ],
  step: [
    'steps',
    'identified',
    `
    end_time:date execution_host>host external:bool external_type=gluster|vdsm job>job number:int parent_step>step progress:int
    start_time:date statistics*statistic status=aborted|failed|finished|started|unknown
    type=executing|finalizing|rebalancing_volume|removing_bricks|unknown|validating
  `,
  ],
  storage_connection: [
    'storage_connections',
    'identified',
    `
    address gluster_volume>ref host>host mount_options nfs_retrans:int nfs_timeo:int nfs_version=auto|v3|v4|v4_0|v4_1|v4_2 password path
    port:int portal target type=cinder|fcp|glance|glusterfs|iscsi|localfs|managed_block_storage|nfs|posixfs username vfs_type
  `,
  ],
  storage_connection_extension: ['storage_connection_extensions', 'identified', `host>host password target username`],
  storage_domain: [
    'storage_domains',
    'identified',
    `
    available:int backup:bool block_size:int committed:int critical_space_action_blocker:int data_center>data_center
    data_centers*data_center discard_after_delete:bool disk_profiles*disk_profile disk_snapshots*disk_snapshot disks*disk
    external_status=error|failure|info|ok|warning files*file host>host images*image import:bool master:bool permissions*permission
    status=activating|active|detaching|inactive|locked|maintenance|mixed|preparing_for_maintenance|unattached|unknown
    storage>host_storage storage_connections*storage_connection storage_format=v1|v2|v3|v4|v5 supports_discard:bool
    supports_discard_zeroes_data:bool templates*template type=data|export|image|iso|managed_block_storage|volume used:int vms*vm
    warning_low_space_indicator:int wipe_after_delete:bool
  `,
  ],
  storage_domain_lease: ['storage_domain_leases', 'plain', `storage_domain>storage_domain`],
  system_option: ['system_options', 'identified', `values*system_option_value`],
  system_option_value: ['system_option_values', 'plain', `value version`],
  tag: ['tags', 'identified', `group>group host>host parent>tag template>template user>user vm>vm`],
  template: [
    'templates',
    'identified',
    `
    auto_pinning_policy=adjust|disabled|existing bios>bios cdroms*cdrom cluster>cluster console>console cpu>cpu
    cpu_pinning_policy=dedicated|isolate_threads|manual|none|resize_and_pin_numa cpu_profile>cpu_profile cpu_shares:int
    creation_time:date custom_compatibility_version>version custom_cpu_model custom_emulated_machine custom_properties*custom_property
    delete_protected:bool disk_attachments*disk_attachment display>display domain>domain graphics_consoles*graphics_console
    high_availability>high_availability initialization>initialization io>io large_icon>ref lease>storage_domain_lease
    mediated_devices*vm_mediated_device:ref memory:int memory_policy>memory_policy migration>migration migration_downtime:int
    multi_queues_enabled:bool nics*nic origin os>os permissions*permission placement_policy>vm_placement_policy quota>quota
    rng_device>rng_device serial_number>serial_number small_icon>ref soundcard_enabled:bool sso>sso start_paused:bool stateless:bool
    status=illegal|locked|ok storage_domain>storage_domain storage_error_resume_behaviour=auto_resume|kill|leave_paused tags*tag
    time_zone>time_zone tpm_enabled:bool tunnel_migration:bool type=desktop|high_performance|server usb>usb version>template_version
    virtio_scsi>virtio_scsi virtio_scsi_multi_queues:int virtio_scsi_multi_queues_enabled:bool vm>vm watchdogs*watchdog
  `,
  ],
  template_version: ['template_versions', 'plain', `base_template>template version_name version_number:int`],
  time_zone: ['time_zones', 'plain', `name utc_offset`],
  transparent_hugepages: ['transparent_huge_pagess', 'plain', `enabled:bool`],
  usb: ['usbs', 'plain', `enabled:bool type=legacy|native`],
  user: [
    'users',
    'identified',
    `
    department domain>domain domain_entry_id email groups*group last_name logged_in:bool namespace options*user_option:ref password
    permissions*permission principal roles*role ssh_public_keys*ssh_public_key:ref tags*tag user_name user_options*property
  `,
  ],
  value: ['values', 'plain', `datum:dec detail`],
  vcpu_pin: ['vcpu_pins', 'plain', `cpu_set vcpu:int`],
  vendor: ['vendors', 'identified', ``],
  version: ['versions', 'identified', `build:int full_version major:int minor:int revision:int`],
  virtio_scsi: ['virtio_scsis', 'plain', `enabled:bool`],
  vlan: ['vlans', 'identified', ``],
  vm: [
    'vms',
    'identified',
    `
    affinity_labels*affinity_label applications*application auto_pinning_policy=adjust|disabled|existing bios>bios cdroms*cdrom
    cluster>cluster console>console cpu>cpu cpu_pinning_policy=dedicated|isolate_threads|manual|none|resize_and_pin_numa
    cpu_profile>cpu_profile cpu_shares:int creation_time:date custom_compatibility_version>version custom_cpu_model
    custom_emulated_machine custom_properties*custom_property delete_protected:bool disk_attachments*disk_attachment display>display
    domain>domain dynamic_cpu>opaque external_host_provider>external_host_provider floppies*floppy fqdn
    graphics_consoles*graphics_console guest_operating_system>guest_operating_system guest_time_zone>time_zone has_illegal_images:bool
    high_availability>high_availability host>host host_devices*host_device host_numa_nodes*host_numa_node:ref
    initialization>initialization instance_type>instance_type io>io katello_errata*katello_erratum:ref large_icon>ref
    lease>storage_domain_lease mediated_devices*vm_mediated_device:ref memory:int memory_policy>memory_policy migration>migration
    migration_downtime:int multi_queues_enabled:bool next_run_configuration_exists:bool nics*nic
    numa_tune_mode=interleave|preferred|strict origin original_template>template os>os payloads*payload permissions*permission
    placement_policy>vm_placement_policy quota>quota reported_devices*reported_device rng_device>rng_device run_once:bool
    serial_number>serial_number sessions*session small_icon>ref snapshots*snapshot soundcard_enabled:bool sso>sso start_paused:bool
    start_time:date stateless:bool statistics*statistic
    status=down|image_locked|migrating|not_responding|paused|powering_down|powering_up|reboot_in_progress|restoring_state|saving_state|suspended|unassigned|unknown|up|wait_for_launch
    status_detail stop_reason stop_time:date storage_domain>storage_domain storage_error_resume_behaviour=auto_resume|kill|leave_paused
    tags*tag template>template time_zone>time_zone tpm_enabled:bool tunnel_migration:bool type=desktop|high_performance|server usb>usb
    use_latest_template_version:bool virtio_scsi>virtio_scsi virtio_scsi_multi_queues:int virtio_scsi_multi_queues_enabled:bool
    vm_pool>vm_pool watchdogs*watchdog
  `,
  ],
  vm_placement_policy: ['vm_placement_policies', 'plain', `affinity=migratable|pinned|user_migratable hosts*host`],
  vm_pool: [
    'vm_pools',
    'identified',
    `
    auto_storage_select:bool cluster>cluster display>display instance_type>instance_type max_user_vms:int permissions*permission
    prestarted_vms:int rng_device>rng_device size:int soundcard_enabled:bool stateful:bool template>template tpm_enabled:bool
    type=automatic|manual use_latest_template_version:bool vm>vm
  `,
  ],
  vm_summary: ['vm_summaries', 'plain', `active:int migrating:int total:int`],
  vnic_pass_through: ['vnic_pass_throughs', 'plain', `mode=disabled|enabled`],
  vnic_profile: [
    'vnic_profiles',
    'identified',
    `
    custom_properties*custom_property failover>vnic_profile migratable:bool network>network network_filter>network_filter
    pass_through>vnic_pass_through permissions*permission port_mirroring:bool qos>ref
  `,
  ],
  volume_group: ['volume_groups', 'identified', `logical_units*logical_unit`],
  watchdog: [
    'watchdogs',
    'identified',
    `
    action=dump|none|pause|poweroff|reset instance_type>instance_type model=diag288|i6300esb template>template vm>vm vms*vm
  `,
  ],
} as const;
