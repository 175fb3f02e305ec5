/*
 * A keyframe in, a small RGB picture out: libavcodec and libswscale, used without GStreamer.
 * Why, and why in C: docs/decisions/015-keyframes-by-libavcodec.md. Its only caller is libav.rs.
 */
#include <libavcodec/avcodec.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>
#include <libswscale/swscale.h>
#include <stdint.h>
#include <string.h>

#define RGB_BYTES 3
/* libavcodec counts lines up to where it aligns them; the exact bound is held before it is asked. */
#define PIXELS_BESIDE (1 << 20)
/* libswscale may write whole vectors: rows begin aligned, and there is room behind the last. */
#define ALIGNMENT 64

struct crest_keyframes {
    AVCodecContext *decoder;
    struct SwsContext *scaler;
    AVPacket *packet;
    AVFrame *frame;
    /* The packet's bytes, with the padding that libavcodec asks for; used again for the next. */
    AVBufferRef *input;
    uint8_t *rgb;
    int stride;
    int side;
};

void crest_keyframes_close(struct crest_keyframes *k)
{
    if (!k)
        return;
    avcodec_free_context(&k->decoder);
    sws_freeContext(k->scaler);
    av_packet_free(&k->packet);
    av_frame_free(&k->frame);
    av_buffer_unref(&k->input);
    av_freep(&k->rgb);
    av_free(k);
}

/*
 * A decoder for the codec of this name. `record` is its decoder configuration record, copied here. Pictures come out
 * as `side` by `side` pixels. 0, or a negative AVERROR.
 */
int crest_keyframes_open(const char *codec, const uint8_t *record, int length, int64_t max_pixels, int side,
                         struct crest_keyframes **out)
{
    const AVCodec *found = avcodec_find_decoder_by_name(codec);
    struct crest_keyframes *k;
    int result = AVERROR(ENOMEM);

    *out = NULL;
    /* Compiled against the headers of another release than it is linked with, nothing would be where it is read. */
    if (avcodec_version() >> 16 != LIBAVCODEC_VERSION_MAJOR || avutil_version() >> 16 != LIBAVUTIL_VERSION_MAJOR ||
        swscale_version() >> 16 != LIBSWSCALE_VERSION_MAJOR)
        return AVERROR_EXTERNAL;
    /* What is wrong is known from return values; libavcodec would write it to standard error. */
    av_log_set_level(AV_LOG_QUIET);
    if (!found)
        return AVERROR_DECODER_NOT_FOUND;
    if (length < 0 || length > 1 << 20 || side <= 0 || side > 1 << 12)
        return AVERROR(EINVAL);
    if (!(k = av_mallocz(sizeof *k)))
        return result;
    k->side = side;
    k->stride = FFALIGN(side * RGB_BYTES, ALIGNMENT);
    k->decoder = avcodec_alloc_context3(found);
    k->packet = av_packet_alloc();
    k->frame = av_frame_alloc();
    k->rgb = av_mallocz((size_t)k->stride * side + ALIGNMENT);
    if (!k->decoder || !k->packet || !k->frame || !k->rgb)
        goto failed;
    if (!(k->decoder->extradata = av_mallocz((size_t)length + AV_INPUT_BUFFER_PADDING_SIZE)))
        goto failed;
    memcpy(k->decoder->extradata, record, length);
    k->decoder->extradata_size = length;
    k->decoder->max_pixels = max_pixels > INT64_MAX - PIXELS_BESIDE ? INT64_MAX : max_pixels + PIXELS_BESIDE;
    /* The pool has threads enough, and a decoder with threads holds a picture for each. */
    k->decoder->thread_count = 1;
    /* It smooths the edges of blocks that are a few pixels wide, of which nothing is left in the small picture; no
     * other picture is predicted from this one. */
    k->decoder->skip_loop_filter = AVDISCARD_ALL;
    if ((result = avcodec_open2(k->decoder, found, NULL)) < 0)
        goto failed;
    *out = k;
    return 0;
failed:
    crest_keyframes_close(k);
    return result;
}

/* Copies the access unit to where libavcodec can read beyond its end. */
static int fill(struct crest_keyframes *k, const uint8_t *data, int length)
{
    size_t needed = (size_t)length + AV_INPUT_BUFFER_PADDING_SIZE;

    /* The decoder lets go of it when it is flushed; if it did not, this one is left to it. */
    if (k->input && (k->input->size < needed || !av_buffer_is_writable(k->input)))
        av_buffer_unref(&k->input);
    if (!k->input && !(k->input = av_buffer_alloc(needed + needed / 4)))
        return AVERROR(ENOMEM);
    memcpy(k->input->data, data, length);
    memset(k->input->data + length, 0, AV_INPUT_BUFFER_PADDING_SIZE);
    if (!(k->packet->buf = av_buffer_ref(k->input)))
        return AVERROR(ENOMEM);
    k->packet->data = k->input->data;
    k->packet->size = length;
    k->packet->flags = AV_PKT_FLAG_KEY;
    return 0;
}

/*
 * The coefficients of a picture's YUV; where it does not say, or names those that libswscale does not have, what its
 * height suggests (as GStreamer has it).
 */
static const int *coefficients(const AVFrame *frame)
{
    switch (frame->colorspace) {
    case AVCOL_SPC_BT709:
    case AVCOL_SPC_FCC:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_SMPTE240M:
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return sws_getCoefficients(frame->colorspace);
    default:
        return sws_getCoefficients(frame->height > 576 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M);
    }
}

/* The older names that say the range too: libswscale renames them, and would make a new scaler for each picture. */
static enum AVPixelFormat without_range(enum AVPixelFormat format)
{
    switch (format) {
    case AV_PIX_FMT_YUVJ420P:
        return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P:
        return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
        return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
        return AV_PIX_FMT_YUV440P;
    default:
        return format;
    }
}

static int scale(struct crest_keyframes *k)
{
    const AVFrame *frame = k->frame;
    const int *yuv = coefficients(frame);
    uint8_t *planes[4] = { k->rgb };
    int strides[4] = { k->stride };
    enum AVPixelFormat format = without_range(frame->format);
    int full = frame->color_range == AVCOL_RANGE_JPEG || (int)format != frame->format;

    k->scaler = sws_getCachedContext(k->scaler, frame->width, frame->height, format, k->side, k->side,
                                     AV_PIX_FMT_RGB24, SWS_BILINEAR, NULL, NULL, NULL);
    if (!k->scaler)
        return AVERROR(EINVAL);
    /* Formats that are RGB already refuse it, and need none. */
    sws_setColorspaceDetails(k->scaler, yuv, full, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    return sws_scale(k->scaler, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, planes,
                     strides) == k->side ? 0 : AVERROR(EINVAL);
}

/*
 * Decodes one access unit that is a keyframe, into `rgb` of `side * side * 3` bytes. 0, or a negative AVERROR:
 * AVERROR_INVALIDDATA also where the picture came out damaged or not at all.
 */
int crest_keyframes_decode(struct crest_keyframes *k, const uint8_t *data, int length, uint8_t *rgb)
{
    int row = k->side * RGB_BYTES;
    int whole = 0, result;

    if (length <= 0 || length > INT32_MAX / 2)
        return AVERROR_INVALIDDATA;
    if ((result = fill(k, data, length)) >= 0)
        result = avcodec_send_packet(k->decoder, k->packet);
    av_packet_unref(k->packet);
    /* Without its end the decoder would wait for what refers to the picture. */
    if (result >= 0)
        result = avcodec_send_packet(k->decoder, NULL);
    /* Started elsewhere than at an IDR frame it may make up others first; the last is the one that was sent. */
    while (result >= 0 && (result = avcodec_receive_frame(k->decoder, k->frame)) >= 0) {
        whole = !(k->frame->flags & AV_FRAME_FLAG_CORRUPT) && !k->frame->decode_error_flags;
        if (whole)
            result = scale(k);
        av_frame_unref(k->frame);
    }
    avcodec_flush_buffers(k->decoder);
    if (result < 0 && result != AVERROR_EOF)
        return result;
    if (!whole)
        return AVERROR_INVALIDDATA;
    for (int y = 0; y < k->side; y++)
        memcpy(rgb + (size_t)y * row, k->rgb + (size_t)y * k->stride, row);
    return 0;
}

/* What a negative result means, in words. */
void crest_keyframes_reason(int result, char *text, size_t size)
{
    av_strerror(result, text, size);
}
