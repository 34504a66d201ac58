-- The tables of the store, one SQLite file (default ~/.local/share/phi/plans.db).
-- Views and triggers are in views.sql. Times are ISO 8601 text in UTC, sizes bytes,
-- rates bytes/s or tokens/s, durations seconds; yes and no are 1 and 0.
-- A change here is a new version: a step in store_schema.c and these texts.

-- A model's weights, whatever files they lie in.
create table model (
    id                integer primary key,         -- what plan.model refers to
    weights_hash      text not null unique check (length(weights_hash) = 64),  -- the key of plans and packed artifacts
    text_hash         text not null,               -- tokenizer, template and generation_config; '' where there are none
    name              text not null,               -- for people: org/name, or the base name of directory or file
    architecture      text not null,               -- 'phi3', 'llama', ...
    path              text not null,               -- the directory or .gguf file it was last seen at
    weight_bytes      integer not null,            -- all tensors, a tied one once
    hidden_size       integer not null,            -- width of the residual vector
    intermediate_size integer not null,            -- width inside the feed-forward half
    block_count       integer not null,            -- transformer blocks; units are 2 * block_count + 2
    head_count        integer not null,            -- query heads
    kv_head_count     integer not null,            -- key and value heads
    head_dim          integer not null,            -- width of a head
    vocab_size        integer not null,            -- rows of the embedding, padding included
    max_context       integer not null,            -- tokens the model was made for
    sliding_window    integer not null,            -- keys a query sees, its own included; 0: all
    tied_head         integer not null check (tied_head in (0, 1)),  -- the head's matrix is the embedding
    created           text not null,               -- when first seen
    updated           text not null                -- when last recorded
) strict;

-- A file whose SHA-256 is known for as long as nothing in its stat changes.
create table model_path (
    path       text primary key,                   -- absolute
    device     integer not null,                   -- st_dev
    inode      integer not null,                   -- st_ino
    size_bytes integer not null,                   -- st_size
    mtime_ns   integer not null,                   -- last change of the content, nanoseconds since 1970
    ctime_ns   integer not null,                   -- last change of the inode, nanoseconds since 1970
    sha256     text check (length(sha256) = 64),   -- null: not computed yet
    model      integer references model (id) on delete set null  -- the model that last named this file
) strict;
create index model_path_model on model_path (model);

-- A named tensor as the model's files have it.
create table tensor (
    model      integer not null references model (id) on delete cascade,  -- whose
    name       text not null,                      -- the container's own name
    type       text not null,                      -- 'f32', 'bf16', 'q4_0', ...
    row_count  integer not null,                   -- 1 for vectors
    column_count integer not null,                 -- contiguous in the file
    file       text not null,                      -- name of the file, as the index spells it
    offset_bytes integer not null,                 -- from the start of the file
    size_bytes integer not null,                   -- stored
    primary key (model, name)
) strict, without rowid;

-- An OpenCL device that was seen on this machine.
create table device (
    id             integer primary key,            -- what probe.device and others refer to
    identity       text not null unique,           -- platform|vendor|name|type|uuid or pci|ordinal: what the hardware key is made of
    short_name     text not null,                  -- 'gpu0', 'igpu0', 'cpu0', ...
    platform       text not null,                  -- CL_PLATFORM_NAME
    vendor_id      integer not null,               -- CL_DEVICE_VENDOR_ID
    name           text not null,                  -- CL_DEVICE_NAME
    type           text not null check (type in ('gpu', 'igpu', 'cpu', 'accel')),  -- igpu: memory shared with the host
    uuid           text not null,                  -- 32 hex digits; '' where the driver has none
    pci            text not null,                  -- '0000:03:00.0'; '' where unknown
    ordinal        integer not null,               -- among devices equal in all of the above
    icd            text not null,                  -- path of the .icd file that brought it; '' where unknown
    driver         text not null,                  -- CL_DRIVER_VERSION
    version        text not null,                  -- CL_DEVICE_VERSION
    memory_bytes   integer not null,               -- as reported
    max_buffer_bytes integer not null,             -- largest single buffer
    alignment      integer not null,               -- bytes that buffers are rounded to
    compute_units  integer not null,               -- CL_DEVICE_MAX_COMPUTE_UNITS
    unified_memory integer not null check (unified_memory in (0, 1)),  -- shares memory with the host
    is_cpu_pool    integer not null check (is_cpu_pool in (0, 1)),     -- its memory is host RAM, counted once
    usable         integer not null check (usable in (0, 1)),          -- the probe's verdict
    reason         text not null,                  -- why not usable; '' where it is
    alias_of       text not null,                  -- short name of a faster device on the same silicon; '' for none
    first_seen     text not null,                  -- when first recorded
    last_seen      text not null                   -- when last recorded
) strict;

-- One measured figure of a device.
create table probe (
    device            integer not null references device (id) on delete cascade,  -- of which
    driver            text not null,               -- CL_DRIVER_VERSION when measured
    what              text not null,               -- 'decode', 'prefill', 'launch', ...; 'fit.decode', ...: what `phiplan check` fitted
    format            text not null,               -- of the weights; '' where it does not matter
    working_set_bytes integer not null,            -- bytes that one step read; 0 where it does not matter
    value             real not null,               -- in `unit`
    unit              text not null,               -- 'B/s', 'op/s', 's'; 'x': a factor on predicted seconds
    measured          text not null,               -- when
    primary key (device, driver, what, format, working_set_bytes)
) strict, without rowid;

-- What lies between two devices.
create table link (
    source           integer not null references device (id) on delete cascade,  -- the residual vector leaves here
    target           integer not null references device (id) on delete cascade,  -- and arrives here
    hop_seconds      real,                         -- one residual vector from queue to queue of a context; null: not measured, negative: it cannot be
    bytes_per_s      real,                         -- large copies; null: not measured
    source_concurrent_bytes_per_s real,            -- what the source reads while both run; null: not measured, negative: it cannot be
    target_concurrent_bytes_per_s real,            -- what the target reads while both run; null: not measured, negative: it cannot be
    source_driver    text not null,                -- CL_DRIVER_VERSION when measured
    target_driver    text not null,                -- CL_DRIVER_VERSION when measured
    measured         text not null,                -- when
    primary key (source, target)
) strict, without rowid;

-- A placement of one model on the devices of one machine, with all that was asked for.
create table plan (
    id               integer primary key autoincrement,  -- never used twice
    model            integer not null references model (id) on delete cascade,  -- what is placed
    hardware_key     text not null check (length(hardware_key) = 64),  -- SHA-256 of the identities of its devices
    name             text not null,                -- 'default', or as given by --name
    created          text not null,                -- when it was saved
    superseded_at    text,                         -- when a newer plan of the same key was saved; null: current
    edited_at        text,                         -- when a shard was last moved by SQL; null: as phiplan made it
    text_hash        text not null,                -- the model's text hash when planned
    model_name       text not null,                -- the model's name when planned
    architecture     text not null,                -- the model's architecture when planned
    model_path       text not null,                -- where the model was when planned
    model_weight_bytes integer not null,           -- all tensors, a tied one once
    unit_count       integer not null,             -- 2 * blocks + 2
    numeric          text not null check (numeric in ('float', 'int8')),  -- class of arithmetic, one for the whole plan
    -- the request, as typed where it is text ('' = not given)
    context          integer not null,             -- tokens of KV
    prompt_tokens    integer not null,             -- of the declared workload
    new_tokens       integer not null,             -- of the declared workload
    micro_batch      integer not null,             -- most tokens in one pass
    kv_type          text not null check (kv_type in ('f32', 'f16', 'q8_0')),  -- how KV is kept
    weights          text not null,                -- 'keep' or the format asked for
    policy           text not null,                -- 'fastest', 'fill', ...
    rope             text not null,                -- 'auto', 'short', 'long'
    devices          text not null,                -- --devices
    exclude          text not null,                -- --exclude
    max_memory       text not null,                -- --max-memory
    max_buffer       text not null,                -- --max-buffer
    pins             text not null,                -- --pin, several separated by ','
    forbids          text not null,                -- --forbid, several separated by ','
    slices           text not null,                -- 'auto', 'off'
    stream           integer not null check (stream in (0, 1)),  -- --stream
    dtype            text not null,                -- --dtype
    -- what the planner expects; null: not known
    predicted_prefill_tokens_per_s    real,        -- of the declared prompt
    predicted_decode_tokens_per_s     real,        -- at context 0
    predicted_decode_tokens_per_s_end real,        -- at full context
    predicted_first_token_s           real,        -- from start to first token
    predicted_total_s                 real,        -- the declared workload
    binding          text not null                 -- what keeps it from being faster, as a sentence; '' for nothing
) strict;
create unique index plan_current on plan (model, hardware_key, name) where superseded_at is null;

-- An environment variable that chooses devices, as it was when planned.
create table plan_environment (
    plan  integer not null references plan (id) on delete cascade,  -- whose precondition
    name  text not null,                           -- 'POCL_DEVICES'
    value text not null,                           -- '' where it was unset
    primary key (plan, name)
) strict, without rowid;

-- A device as a plan sees it: preconditions, budget and what it holds. Every plan
-- has a row 'host' too, for what is read from the mapped file.
create table plan_device (
    plan             integer not null references plan (id) on delete cascade,  -- whose
    device           text not null,                -- short name, or 'host'; what shard.device refers to
    position         integer not null,             -- order in the plan; -1 for the host
    device_row       integer references device (id),  -- identity; null for the host
    -- preconditions: as they were when planned
    icd              text not null,                -- path of the .icd file; '' where unknown
    driver           text not null,                -- CL_DRIVER_VERSION
    version          text not null,                -- CL_DEVICE_VERSION
    memory_bytes     integer not null,             -- as reported
    reported_max_buffer_bytes integer not null,    -- largest single buffer as reported
    alignment        integer not null,             -- bytes that buffers are rounded to
    compute_units    integer not null,             -- CL_DEVICE_MAX_COMPUTE_UNITS
    unified_memory   integer not null check (unified_memory in (0, 1)),  -- shares memory with the host
    is_cpu_pool      integer not null check (is_cpu_pool in (0, 1)),     -- its memory is host RAM
    -- memory; weights and kv follow shards that are moved by SQL
    budget_bytes     integer not null,             -- what the plan may use
    max_buffer_bytes integer not null,             -- largest single buffer that the plan uses
    weight_bytes     integer not null,             -- buffers of weights
    kv_bytes         integer not null,             -- pages of keys and values
    scratch_bytes    integer not null,             -- activations of one micro-batch
    staging_bytes    integer not null,             -- hand-offs to and from other devices
    slack_bytes      integer not null,             -- left alone on purpose
    decode_seconds   real,                         -- predicted share of one token, mid-workload; null: not known
    prefill_seconds  real,                         -- predicted share of the prompt; null: not known
    empty_reason     text not null,                -- why it holds nothing; '' where it does
    check ((device = 'host') = (device_row is null) and (device = 'host') = (position < 0)),
    primary key (plan, device)
) strict, without rowid;
create index plan_device_device_row on plan_device (device_row);

-- Something made from a model once and mapped at every start: a packed part of a
-- unit, or a tokenizer image. Keyed by what it was made from, never by plan.
create table artifact (
    id            integer primary key,             -- what shard.artifact refers to
    kind          text not null check (kind in ('weights', 'tokenizer')),  -- what it is
    source_hash   text not null,                   -- weights hash; for a tokenizer image the text hash
    unit          text not null,                   -- 'attn.3'; '' for a tokenizer image
    part_begin    integer not null,                -- first part of the unit
    part_end      integer not null,                -- behind the last one
    format        text not null,                   -- type of the values
    layout        text not null,                   -- arrangement in memory
    version       integer not null,                -- of that arrangement
    path          text not null,                   -- the file that holds it
    offset_bytes  integer not null,                -- within the file, a multiple of 4096
    size_bytes    integer not null,                -- without padding
    checksum      text not null,                   -- SHA-256 of the bytes
    created       text not null,                   -- when it was packed
    last_verified text,                            -- when the checksum was last found right; null: never
    unique (kind, source_hash, unit, part_begin, part_end, format, layout, version)
) strict;

-- Where a unit, or some of its parts, runs. The sum of weight_bytes over a plan is
-- the model's; changing `device` moves the bytes:
--   update shard set device = 'cpu0' where plan = 1 and unit between 10 and 20;
create table shard (
    plan         integer not null references plan (id) on delete cascade,  -- whose
    unit         integer not null check (unit >= 0),  -- 0 embed, 1 + 2i attn.i, 2 + 2i ffn.i, last head
    unit_name    text not null,                    -- the same for people
    part_begin   integer not null check (part_begin >= 0),  -- first part; a whole unit begins at 0
    part_end     integer not null check (part_end > part_begin),  -- behind the last part
    device       text not null check (device <> 'host' or unit = 0),  -- short name; 'host': embed only
    format       text not null,                    -- 'keep' or the packed layout
    residency    text not null check (residency in ('resident', 'streamed')),  -- streamed: read for every token
    artifact     integer references artifact (id), -- packed bytes; null: the model's own files
    weight_bytes integer not null,                 -- stored weights
    kv_bytes     integer not null,                 -- KV of the planned context
    primary key (plan, unit, part_begin),
    foreign key (plan, device) references plan_device (plan, device) on update cascade
) strict, without rowid;
create index shard_device on shard (plan, device);
create index shard_artifact on shard (artifact);

-- A program built for a device, so that phirun compiles nothing.
create table program (
    id           integer primary key,              -- no meaning beyond this table
    device       integer not null references device (id) on delete cascade,  -- for which
    driver       text not null,                    -- CL_DRIVER_VERSION it was built with
    name         text not null,                    -- for people: the kernel's file
    source_hash  text not null,                    -- SHA-256 of source and build options
    launches     text not null,                    -- what was launched before the binary was taken
    binary       blob not null,                    -- zlib-compressed
    binary_bytes integer not null,                 -- before compression
    checksum     text not null,                    -- HMAC-SHA256 under the user's own key: code of others is not run
    created      text not null,                    -- when it was built
    unique (device, driver, source_hash, launches)
) strict;

-- The variant of a kernel that was found best for a device, format and shape.
create table tuning (
    device       integer not null references device (id) on delete cascade,  -- for which
    driver       text not null,                    -- CL_DRIVER_VERSION when measured
    operation    text not null,                    -- 'matvec', 'matmul', 'attention', ...
    format       text not null,                    -- of the weights; '' where it does not matter
    row_count    integer not null,                 -- of the matrix; 0: any
    column_count integer not null,                 -- of the matrix; 0: any
    token_count  integer not null,                 -- of a pass; 0: any
    variant      text not null,                    -- name in the registry of kernels, or 'clblast'
    parameters   text not null,                    -- name=value pairs for CLBlast or the kernel; '' for none
    local_size   integer not null,                 -- work-items of a group; 0: the variant's own
    unordered    integer not null check (unordered in (0, 1)),  -- sums in an order of its own
    seconds      real not null,                    -- measured
    measured     text not null,                    -- when
    primary key (device, driver, operation, format, row_count, column_count, token_count)
) strict, without rowid;

-- One use of a plan: what was measured, never the text. Old runs are trimmed.
create table run (
    id             integer primary key,            -- in order of time
    plan           integer not null references plan (id) on delete cascade,  -- which was run
    ended          text not null,                  -- when
    kind           text not null,                  -- 'generate', 'bench', 'exact', 'logits', ...
    prompt_tokens  integer not null,               -- run in prefill
    new_tokens     integer not null,               -- generated, the end token included
    load_s         real,                           -- start to ready; null: not measured
    first_token_s  real,                           -- start to first token; null: not measured
    prefill_s      real,                           -- the prompt; null: not measured
    decode_s       real,                           -- the new tokens after the first; null: not measured
    finish_reason  text not null,                  -- 'eos', 'length', 'stop', 'time', 'interrupted'
    settings       text not null                   -- effective sampling settings, for people
) strict;
create index run_plan on run (plan);

-- What one device did in one phase of a run.
create table run_device (
    run     integer not null references run (id) on delete cascade,  -- of which
    device  text not null,                         -- short name, or 'host'
    phase   text not null,                         -- 'load', 'prefill', 'decode'
    seconds real,                                  -- busy; null: not measured
    bytes   integer not null,                      -- loaded, or read by kernels; 0 where not counted
    primary key (run, device, phase)
) strict, without rowid;
